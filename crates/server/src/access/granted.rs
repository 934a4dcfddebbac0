//! What `access.toml` gives a caller, now. Calls may go on for longer than the rule that let them in.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Denied, Grant, Settings, config::Config};

/// What one caller gets by the settings. Calls that go on ask for it again and again; it is looked for only where the
/// settings changed since.
pub(super) struct Granted {
    settings: Arc<Settings>,
    found: Mutex<Option<Found>>,
}

/// What was found last, and where.
struct Found {
    config: Arc<Config>,
    grant: Result<Arc<Grant>, Denied>,
}

impl Granted {
    /// Looks for nothing yet.
    pub(super) fn new(settings: &Arc<Settings>) -> Self {
        Self {
            settings: settings.clone(),
            found: Mutex::default(),
        }
    }

    /// What `find`, the same at each call, finds in the settings that hold now.
    pub(super) fn now(
        &self,
        find: impl FnOnce(&Config) -> Result<Arc<Grant>, Denied>,
    ) -> Result<Arc<Grant>, Denied> {
        let config = self.settings.current();
        // It changes in one step.
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match &*found {
            Some(found) if Arc::ptr_eq(&found.config, &config) => found.grant.clone(),
            _ => {
                let grant = find(&config);
                *found = Some(Found {
                    config,
                    grant: grant.clone(),
                });
                grant
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, path::Path};

    use tokio::sync::watch;

    use super::*;
    use crate::{
        access::{Right, Role, config_path},
        watched::Watched,
    };

    #[tokio::test]
    async fn a_rule_is_looked_for_once_and_again_when_the_settings_change() {
        let directory = tempfile::tempdir().unwrap();
        let parse = |text: &str| Arc::new(Config::parse(text, Path::new("/data")).unwrap());
        let (sender, current) = watch::channel(parse("anonymous = [\"read\"]"));
        let settings = Settings {
            watched: Watched::start(&config_path(directory.path()), |_| Ok(Config::open())).unwrap(),
            current,
        };
        let granted = Granted::new(&Arc::new(settings));
        let looked = Cell::new(0);
        let now = || {
            granted.now(|config| {
                looked.set(looked.get() + 1);
                let grant = config.anonymous.clone();
                match grant.roles().contains(&Role::Read) {
                    true => Ok(grant),
                    false => Err(Denied::Forbidden("no rule".to_owned())),
                }
            })
        };
        for _ in 0..3 {
            assert!(
                now()
                    .unwrap()
                    .lacks(Right::Audit, &"main".parse().unwrap())
                    .is_some()
            );
        }
        assert_eq!(looked.get(), 1);
        sender.send_replace(parse(""));
        for _ in 0..3 {
            assert_eq!(now(), Err(Denied::Forbidden("no rule".to_owned())));
        }
        assert_eq!(looked.get(), 2);
        // What was denied is no more final than what was granted.
        sender.send_replace(parse("anonymous = [\"read\", \"audit\"]"));
        assert!(
            now()
                .unwrap()
                .lacks(Right::Audit, &"main".parse().unwrap())
                .is_none()
        );
        assert_eq!(looked.get(), 3);
    }
}
