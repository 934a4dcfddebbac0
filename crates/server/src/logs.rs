//! The logs of a data directory, those that a server has open, and which of them a caller may use.

use std::{collections::BTreeMap, fs, path::Path, str::FromStr as _, sync::Arc};

use anyhow::{Context as _, ensure};
use counterfoil_log::{DataDirectory, Log, LogName};

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

/// The log named, or all logs of a data directory.
pub(crate) fn log_names(data: &Path, log: Option<&LogName>) -> anyhow::Result<Vec<LogName>> {
    if let Some(name) = log {
        // Where it can't be seen, opening it says why.
        let exists = fs::exists(DataDirectory::new(data).log(name).path()).unwrap_or(true);
        ensure!(exists, "there is no log `{name}` in {}", data.display());
        return Ok(vec![name.clone()]);
    }
    let names = all_names(data)?;
    ensure!(!names.is_empty(), "{} holds no logs", data.display());
    Ok(names)
}

/// Refuses names of logs that a data directory does not have. A misspelt one would make a token or a key that is good for
/// nothing, and nobody would see why.
pub(crate) fn ensure_logs(data: &Path, wanted: &[LogName]) -> anyhow::Result<()> {
    let logs = all_names(data)?;
    for log in wanted {
        ensure!(
            logs.contains(log),
            "there is no log `{log}` in {}",
            data.display()
        );
    }
    Ok(())
}

fn all_names(data: &Path) -> anyhow::Result<Vec<LogName>> {
    let logs = DataDirectory::new(data).logs();
    logs.with_context(|| format!("can't list the logs of {}", data.display()))
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    #[test]
    fn names_that_no_log_has_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path();
        let [main, other] = ["main", "other"].map(|name| name.parse::<LogName>().unwrap());
        let refusal = |log| log_names(data, log).unwrap_err().to_string();
        assert!(refusal(None).starts_with("can't list the logs of "));
        fs::create_dir(data.join("logs")).unwrap();
        assert!(refusal(None).ends_with(" holds no logs"));
        fs::create_dir(data.join("logs/main")).unwrap();
        assert_eq!(log_names(data, None).unwrap(), slice::from_ref(&main));
        assert_eq!(log_names(data, Some(&main)).unwrap(), slice::from_ref(&main));
        let unknown = format!("there is no log `other` in {}", data.display());
        assert_eq!(refusal(Some(&other)), unknown);
        ensure_logs(data, &[]).unwrap();
        let problem = ensure_logs(data, &[main, other]).unwrap_err();
        assert_eq!(problem.to_string(), unknown);
    }
}
