//! The logs of a server, and which of them a caller may use.

use std::{collections::BTreeMap, str::FromStr as _, sync::Arc};

use counterfoil_log::{Log, LogName};

use crate::{access::Caller, refusal::Refusal};

/// The logs of a server, by name.
pub(crate) type Logs = Arc<BTreeMap<LogName, Arc<Log>>>;

/// A log on which the caller may make this call; the default one where `name` is empty. Whoever has it not does not learn
/// whether there is such a log.
pub(crate) fn find_log(logs: &Logs, name: &str, caller: &Caller) -> Result<Arc<Log>, Refusal> {
    let name = if name.is_empty() { LogName::DEFAULT } else { name };
    let unknown = || Refusal::unknown_log(name);
    let name = LogName::from_str(name).map_err(|_| unknown())?;
    caller.require(&name)?;
    logs.get(&name).cloned().ok_or_else(unknown)
}
