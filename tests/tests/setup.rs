//! `counterfoild setup`: from nothing to the first delivery on record, and what it says on the way when something is wrong.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use counterfoil_tests::{Connection, Data, Hook, Server, counterfoil, counterfoild, own_port};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Nothing that is waited for here takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A text that grows while a program runs.
#[derive(Clone, Default)]
struct Growing(Arc<Mutex<String>>);

impl Growing {
    fn follow(&self, from: impl std::io::Read + Send + 'static) -> JoinHandle<()> {
        let text = self.0.clone();
        thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut bytes = Vec::new();
            // A terminal whose other side is closed is an error, and not an end.
            while from.read_until(b'\n', &mut bytes).unwrap_or(0) > 0 {
                text.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes));
                bytes.clear();
            }
        })
    }

    fn now(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

/// A `counterfoild setup` that runs.
struct Setup {
    child: Child,
    out: Growing,
    errors: Growing,
    readers: Vec<JoinHandle<()>>,
}

impl Setup {
    fn start(data: &Data, arguments: &[&str]) -> Self {
        let mut command = counterfoild();
        command
            .arg("setup")
            .args(arguments)
            .arg("--data")
            .arg(data.path());
        Self::spawn(command.stdin(Stdio::null()))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (out, errors) = (Growing::default(), Growing::default());
        let readers = vec![
            out.follow(child.stdout.take().unwrap()),
            errors.follow(child.stderr.take().unwrap()),
        ];
        Self {
            child,
            out,
            errors,
            readers,
        }
    }

    #[track_caller]
    fn until(&mut self, what: impl Fn(&Self) -> bool) {
        let tries = u32::try_from(PATIENCE.as_millis()).unwrap() / 20;
        for _ in 0..tries {
            if what(self) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("it says {}{}", self.out.now(), self.errors.now());
    }

    /// Waits until it says this on standard error.
    #[track_caller]
    fn says(&mut self, text: &str) {
        self.until(|setup| setup.errors.now().contains(text));
    }

    /// What stands in a field of the form.
    #[track_caller]
    fn field(&mut self, label: &str) -> String {
        let of = |setup: &Self| {
            let out = setup.out.now();
            let line = out
                .lines()
                .find(|line| line.trim_start().starts_with(label))?
                .to_owned();
            Some(line.trim_start()[label.len()..].trim().to_owned())
        };
        // The last of it, so that all is there.
        self.until(|setup| setup.out.now().contains("\nThe s"));
        of(self).unwrap_or_else(|| panic!("no {label} in {}", self.out.now()))
    }

    /// Waits for its end. Returns the exit code, and what it said.
    fn end(mut self) -> (Option<i32>, String, String) {
        let code = self.child.wait().unwrap().code();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        (code, self.out.now(), self.errors.now())
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn url(server: &Server) -> String {
    format!("http://{}", server.address())
}

fn hook(id: &str, provider: &str, secret: &str) -> Hook {
    Hook {
        id: id.to_owned(),
        provider: provider.to_owned(),
        secret: secret.to_owned(),
    }
}

/// The command that is printed under a line, as a shell takes it apart.
fn command_after(text: &str, line: &str) -> Vec<String> {
    let (_, rest) = text.split_once(line).unwrap();
    let command = rest.trim_start().lines().next().unwrap();
    command.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_ping_shows_its_receipt() {
    let (data, _log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let mut setup = Setup::start(
        &data,
        &["github", "--url", &url(&server), "--repo", "acme/widgets"],
    );
    let secret = setup.field("Secret");
    assert_eq!(
        setup.field("Payload URL"),
        format!("{}/hooks/github", url(&server))
    );
    assert_eq!(setup.field("Content type"), "application/json");
    setup.says("leads to this server");

    let ping = hook("github", "github", &secret).deliver(server.address(), "ping", "d1", br#"{"zen":"x"}"#);
    assert_eq!(ping.status, 201, "{ping:?}");
    let (code, out, errors) = setup.end();
    assert_eq!(code, Some(0), "{errors}");
    let answer: serde_json::Value = serde_json::from_str(&ping.body).unwrap();
    assert!(out.contains("The delivery `ping` is on record"), "{out}");
    for line in [
        format!("leaf       {}", answer["leaf_index"]),
        format!("leaf hash  {}", answer["leaf_hash"].as_str().unwrap()),
        format!(
            "head       size {}, root {}",
            answer["tree_size"],
            answer["root_hash"].as_str().unwrap()
        ),
    ] {
        assert!(out.contains(&line), "no {line:?} in {out}");
    }

    // Who waits again is told of it, if nothing comes.
    let url = url(&server);
    let again = ["github", "--url", &url, "--repo", "acme/widgets", "--wait", "5s"];
    let (code, _, errors) = Setup::start(&data, &again).end();
    assert_eq!(code, Some(3), "{errors}");
    let last = format!(
        "The last one before is on record: `ping`, leaf {}.",
        answer["leaf_index"]
    );
    assert!(errors.contains(&last), "{errors}");

    // What it says to run does what it says.
    let receipt = command_after(
        &out,
        "This fetches its receipt, and checks it; where there is an access.toml, add --token-file with a token that may audit:",
    );
    assert_eq!(receipt[0], "counterfoil");
    let fetched = counterfoil()
        .args(&receipt[1..])
        .current_dir(data.path())
        .env("XDG_STATE_HOME", data.beside("state"))
        .output()
        .unwrap();
    assert!(fetched.status.success(), "{fetched:?}");
    let (file, key) = (receipt.last().unwrap(), &receipt[8]);
    let body = data.beside("ping.json");
    fs::write(&body, br#"{"zen":"x"}"#).unwrap();
    server.stop();
    let verified = counterfoil()
        .args(["verify", "--log-key", key, "--payload"])
        .arg(&body)
        .arg(data.path().join(file))
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");

    // The secret is where its owner alone can read it, and it was shown once.
    assert_eq!(out.matches(&secret).count(), 1);
    assert!(!errors.contains(&secret));
    let kept = data.path().join("sources/github.toml");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&kept).unwrap().contains(&secret));
    let local = data.path().join("local");
    assert_eq!(fs::metadata(&local).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_delivery_that_can_not_be_shown_is_told_all_the_same() {
    let (data, _log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let added = Hook::add(&data, "github", "github", &[]);
    let mut child = counterfoild()
        .args(["setup", "github", "--org", "acme", "--url"])
        .arg(url(&server))
        .arg("--data")
        .arg(data.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = child.stdout.take().unwrap();
    let errors = Growing::default();
    let readers = vec![errors.follow(child.stderr.take().unwrap())];
    let mut setup = Setup {
        child,
        out: Growing::default(),
        errors,
        readers,
    };
    // It has printed the form then. Nobody reads on.
    setup.says("leads to this server");
    drop(out);
    let ping = added.deliver(server.address(), "ping", "d1", b"{}");
    assert_eq!(ping.status, 201, "{ping:?}");
    let (code, _, errors) = setup.end();
    assert_eq!(code, Some(3), "{errors}");
    assert!(
        errors.contains("the delivery is on record as leaf 1, which can't be printed"),
        "{errors}"
    );
}

#[test]
fn what_is_wrong_with_a_delivery_is_told() {
    let (data, _log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let mut setup = Setup::start(&data, &["github", "--url", &url(&server), "--org", "acme"]);
    let secret = setup.field("Secret");
    setup.says("leads to this server");
    let right = hook("github", "github", &secret);
    let body = b"{}";

    right
        .with_secret("another-secret-of-some-length")
        .deliver(server.address(), "ping", "d1", body);
    setup.says("the secret at GitHub is not this one");
    let headers = |skip: &str| -> Vec<(String, String)> {
        let headers = right.headers("ping", "d2", body);
        headers.into_iter().filter(|(name, _)| name != skip).collect()
    };
    Connection::to(server.address()).post("/hooks/github", &headers("x-hub-signature-256"), body);
    setup.says("it is not signed. Enter the secret");
    let mut form = headers("content-type");
    form.push((
        "content-type".to_owned(),
        "application/x-www-form-urlencoded".to_owned(),
    ));
    Connection::to(server.address()).post("/hooks/github", &form, body);
    setup.says("its content type has to be application/json");
    hook("github", "gitea", &secret).deliver(server.address(), "push", "d3", body);
    setup.says("another provider's deliveries");
    hook("gihtub", "github", &secret).deliver(server.address(), "ping", "d4", body);
    setup.says("came to /hooks/gihtub, where there is no source");
    for path in ["/hooks/github/", "/hooks", "/"] {
        let answer = Connection::to(server.address()).post(path, &headers(""), body);
        assert_eq!(answer.status, 404, "{answer:?}");
        setup.says(&format!("came to {path}, where there is no source"));
    }
    Connection::to(server.address()).send("GET", "/hooks/other", "");
    setup.says("came to /hooks/other, where there is no source");
    Connection::to(server.address()).send("GET", "/hooks/github", "");
    setup.says("deliveries come by POST (status 405)");
    // Said once, however often it comes.
    for _ in 0..3 {
        right
            .with_secret("another-secret-of-some-length")
            .deliver(server.address(), "ping", "d1", body);
        thread::sleep(Duration::from_millis(400));
    }
    // Another spelling of the same path.
    let spelt = hook("gith%75b", "github", &secret);
    assert_eq!(spelt.deliver(server.address(), "ping", "d5", body).status, 201);
    let (code, _, errors) = setup.end();
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(
        errors.matches("the secret at GitHub is not this one").count(),
        1,
        "{errors}"
    );
    assert!(!errors.contains(&secret) && !server.errors().contains(&secret));
}

#[test]
fn the_server_may_be_started_afterwards() {
    let (data, _log) = Data::with_main_log();
    let free = TcpListener::bind(own_port()).unwrap();
    let address: SocketAddr = free.local_addr().unwrap();
    let to = format!("http://{address}");
    let mut setup = Setup::start(&data, &["github", "--url", &to, "--repo", "acme/widgets"]);
    let secret = setup.field("Secret");
    setup.says("no server runs on this data directory yet. In another terminal: counterfoild serve --data");
    drop(free);
    let server = Server::start(&data, &["--listen", &address.to_string()]);
    setup.says("leads to this server");
    // One that is killed and comes back is found again.
    server.kill();
    let server = Server::start(&data, &["--listen", &address.to_string()]);
    let ping = hook("github", "github", &secret).deliver(server.address(), "ping", "d1", b"{}");
    assert_eq!(ping.status, 201, "{ping:?}");
    assert_eq!(setup.end().0, Some(0));
}

#[test]
fn again_it_makes_nothing_new_unless_asked_to() {
    let (data, _log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let to = url(&server);
    let base = ["github", "--url", &to, "--org", "acme", "--wait"];
    let run = |more: &[&str]| Setup::start(&data, &[&base[..], more].concat());
    let mut first = run(&["0s"]);
    let secret = first.field("Secret");
    assert_eq!(first.end().0, Some(0));
    let file = data.path().join("sources/github.toml");
    let kept = fs::read(&file).unwrap();

    let mut again = run(&["1m"]);
    let shown = again.field("Secret");
    assert!(
        shown.starts_with("the one that was shown when it was made ("),
        "{shown}"
    );
    again.says("leads to this server");
    assert_eq!(fs::read(&file).unwrap(), kept);
    let ping = |secret: &str, id: &str| {
        hook("github", "github", secret).deliver(server.address(), "ping", id, b"{}")
    };
    assert_eq!(ping(&secret, "d1").status, 201);
    let (code, out, _) = again.end();
    assert!(code == Some(0) && !out.contains(&secret), "{out}");

    let mut rotated = run(&["1m", "--rotate"]);
    let new = rotated.field("Secret");
    assert_ne!(new, secret);
    rotated.says("leads to this server");
    // What came before is not what it waits for.
    thread::sleep(Duration::from_millis(1_500));
    assert_eq!(rotated.child.try_wait().unwrap(), None);
    // The old one counts until it is retired, and so does not show that the new one was entered.
    assert_eq!(ping(&secret, "d2").status, 201);
    let (code, out, _) = rotated.end();
    assert_eq!(code, Some(0));
    let retire = out
        .lines()
        .find(|line| line.starts_with("Once GitHub has it"))
        .unwrap();
    let (_, retire) = retire.split_once(": counterfoild ").unwrap();
    let retired = counterfoild().args(retire.split_whitespace()).output().unwrap();
    assert!(retired.status.success(), "{retired:?}");
    let gone = (0..100).any(|number| {
        thread::sleep(Duration::from_millis(100));
        ping(&secret, &format!("old-{number}")).status == 401
    });
    assert!(gone, "the old secret still counts");
    assert_eq!(ping(&new, "d3").status, 201);
}

#[test]
fn a_source_that_is_another_s_stays_as_it_is() {
    let (data, _log) = Data::with_main_log();
    data.init("other", "blake3");
    Hook::add(
        &data,
        "forge",
        "gitea",
        &["--host", "git.example.com", "--log", "other"],
    );
    let file = data.path().join("sources/forge.toml");
    let kept = fs::read(&file).unwrap();
    let to = [
        "--url",
        "https://log.example.com",
        "--source",
        "forge",
        "--wait",
        "0s",
    ];
    for (what, says) in [
        (
            vec!["github", "--repo", "acme/widgets", "--log", "other"],
            "for Gitea at \"git.example.com\"",
        ),
        (
            vec![
                "gitea",
                "--repo",
                "acme/widgets",
                "--log",
                "main",
                "--host",
                "git.example.com",
            ],
            "and the log `other`",
        ),
        (
            vec![
                "gitea",
                "--repo",
                "acme/widgets",
                "--log",
                "other",
                "--host",
                "other.example.com",
            ],
            "Choose another name with --source",
        ),
        (
            vec!["github", "--repo", "acme/widgets", "--log", "none"],
            "no log `none`",
        ),
        (
            vec!["github", "--repo", "acme", "--log", "main"],
            "written like acme/widgets",
        ),
        (
            vec!["github", "--org", "acme/widgets", "--log", "main"],
            "written like acme",
        ),
        (
            vec!["github", "--org", "$(id)", "--log", "main"],
            "written like acme",
        ),
        (
            vec![
                "github", "--repo", "a/b", "--log", "main", "--source", "new", "--rotate",
            ],
            "no source `new` whose secret could be rotated",
        ),
    ] {
        let to: &[&str] = if what.contains(&"--source") {
            &["--url", "https://log.example.com", "--wait", "0s"]
        } else {
            &to
        };
        let (code, out, errors) = Setup::start(&data, &[&what[..], to].concat()).end();
        assert_eq!(code, Some(3), "{what:?}: {errors}");
        assert!(errors.contains(says), "{what:?}: {errors}");
        assert_eq!(out, "", "{what:?}");
    }
    assert_eq!(fs::read(&file).unwrap(), kept);
    assert_eq!(fs::read_dir(data.path().join("sources")).unwrap().count(), 1);

    for (what, says) in [
        (vec!["github", "--repo", "a/b"], "--log is needed"),
        (vec!["github", "--repo", "a/b"], "--url is needed"),
        (
            vec!["github", "--url", "https://log.example.com"],
            "--org or --repo is needed",
        ),
        (
            vec!["gitlab", "--url", "https://log.example.com"],
            "--group or --project is needed",
        ),
        (
            vec!["gitea", "--url", "https://log.example.com", "--repo", "a/b"],
            "--host is needed",
        ),
        (
            vec!["github", "--url", "log.example.com", "--repo", "a/b"],
            "https://log.example.com",
        ),
        (
            vec!["github", "--org", "a", "--repo", "a/b"],
            "cannot be used with",
        ),
    ] {
        let log: &[&str] = if says.starts_with("--log") {
            &[]
        } else {
            &["--log", "main"]
        };
        let (code, _, errors) = Setup::start(&data, &[&what[..], log].concat()).end();
        assert_eq!(code, Some(2), "{what:?}: {errors}");
        assert!(errors.contains(says), "{what:?}: {errors}");
    }
}

#[test]
fn nothing_that_comes_is_told_too() {
    let (data, _log) = Data::with_main_log();
    let (other_data, _other_log) = Data::with_main_log();
    let (server, other) = (Server::start(&data, &[]), Server::start(&other_data, &[]));
    let run =
        |url: &str| Setup::start(&data, &["github", "--url", url, "--org", "acme", "--wait", "5s"]).end();
    let (code, _, errors) = run(&url(&server));
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("Nothing came meanwhile, good or bad"), "{errors}");
    assert!(errors.contains("Recent Deliveries"), "{errors}");
    let (_, _, errors) = run(&url(&other));
    assert!(
        errors.contains("answers with status 404 Not Found, and it is not this server"),
        "{errors}"
    );
    let (_, _, errors) = run("http://127.0.0.1:1");
    assert!(
        errors.contains("can't be reached from this machine") && errors.contains("refused"),
        "{errors}"
    );
    server.stop();
    let (_, _, errors) = run("http://127.0.0.1:1");
    assert!(errors.contains("No server ran on"), "{errors}");
    // That the server was not there at first is nothing that came.
    let to = url(&other);
    let mut late = Setup::start(&data, &["github", "--url", &to, "--org", "acme", "--wait", "15s"]);
    late.says("no server runs on this data directory yet");
    let _server = Server::start(&data, &[]);
    let (_, _, errors) = late.end();
    assert!(errors.contains("Nothing came meanwhile, good or bad"), "{errors}");
}

#[test]
fn other_providers_are_set_up_alike() {
    let (data, _log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let to = url(&server);
    for (arguments, id, provider, label) in [
        (
            vec!["gitlab", "--project", "acme/tools/widgets"],
            "gitlab",
            "gitlab",
            "Signing token",
        ),
        (
            vec!["gitlab", "--group", "acme", "--secret-token", "--source", "older"],
            "older",
            "gitlab",
            "Secret token",
        ),
        (
            vec!["gitea", "--host", "git.example.com", "--repo", "acme/widgets"],
            "gitea",
            "gitea",
            "Secret",
        ),
        (
            vec![
                "forgejo",
                "--host",
                "git.example.com",
                "--org",
                "acme",
                "--source",
                "codeberg",
            ],
            "codeberg",
            "gitea",
            "Secret",
        ),
    ] {
        let mut setup = Setup::start(&data, &[&arguments[..], &["--url", &to]].concat());
        let secret = setup.field(label);
        setup.says("leads to this server");
        let answer = hook(id, provider, &secret).deliver(server.address(), "Push Hook", "d1", b"{}");
        assert_eq!(answer.status, 201, "{arguments:?}: {answer:?}");
        let (code, out, errors) = setup.end();
        assert_eq!(code, Some(0), "{arguments:?}: {errors}");
        assert!(out.contains("The delivery `Push Hook` is on record"), "{out}");
    }
}

/// A GitLab that has no signing tokens gets none when its secret is rotated, whether one says so again or not.
#[test]
fn a_rotation_makes_the_kind_of_secret_that_there_was() {
    let (data, _log) = Data::with_main_log();
    let of_source = |source: &str, more: &[&str]| {
        let base = [
            "gitlab",
            "--url",
            "https://log.example.com",
            "--group",
            "acme",
            "--wait",
            "0s",
            "--source",
            source,
        ];
        let (code, out, errors) = Setup::start(&data, &[&base[..], more].concat()).end();
        assert_eq!(code, Some(0), "{errors}");
        out
    };
    for (source, first, rotated, label) in [
        ("older", vec!["--secret-token"], vec!["--rotate"], "Secret token"),
        ("newer", vec![], vec!["--rotate"], "Signing token"),
        ("back", vec![], vec!["--rotate", "--secret-token"], "Secret token"),
    ] {
        of_source(source, &first);
        let out = of_source(source, &rotated);
        assert!(out.contains(label), "no {label} in {out}");
    }
}

/// What nobody gave is asked for, where somebody sits at a terminal.
#[test]
fn a_person_is_asked() {
    let (data, _log) = Data::with_main_log();
    data.init("other", "blake3");
    let server = Server::start(&data, &[]);
    let pty = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&pty).unwrap();
    unlockpt(&pty).unwrap();
    let name = ptsname(&pty, Vec::new()).unwrap().into_string().unwrap();
    let terminal = File::options().read(true).write(true).open(name).unwrap();
    let mut command = counterfoild();
    command
        .args(["setup", "github", "--data"])
        .arg(data.path())
        .stdin(terminal.try_clone().unwrap())
        .stderr(terminal);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    drop(command);
    let (out, errors) = (Growing::default(), Growing::default());
    let mut person = File::from(pty);
    let readers = vec![
        out.follow(child.stdout.take().unwrap()),
        errors.follow(person.try_clone().unwrap()),
    ];
    let mut setup = Setup {
        child,
        out,
        errors,
        readers,
    };
    setup.says("Which log? One of main, other");
    person.write_all(b"none\n").unwrap();
    setup.says("there is no such log");
    person.write_all(b"other\n").unwrap();
    setup.says("Where does GitHub reach this server?");
    person.write_all(b"log.example.com\n").unwrap();
    setup.says("it is written like https://log.example.com");
    writeln!(person, "{}", url(&server)).unwrap();
    setup.says("Which repository, such as acme/widgets, or organization");
    person.write_all(b"acme/widgets/x\n").unwrap();
    setup.says("a repository is written like acme/widgets");
    person.write_all(b" acme/widgets \n").unwrap();
    let secret = setup.field("Secret");
    setup.says("leads to this server");
    let ping = hook("github", "github", &secret).deliver(server.address(), "ping", "d1", b"{}");
    assert_eq!(ping.status, 201, "{ping:?}");
    assert_eq!(setup.child.wait().unwrap().code(), Some(0));
    assert!(ping.body.contains("test.example/other"), "{ping:?}");
    // Answers end with the terminal's line, and are not asked for again.
    assert_eq!(setup.errors.now().matches("Where does GitHub reach").count(), 2);
}

/// The path of a socket has some 100 bytes: a deep directory has no socket, and all else.
#[test]
fn a_deep_directory_serves_without_the_socket() {
    let deep = tempfile::tempdir().unwrap();
    let data = Data::at(deep.path().join("d".repeat(120)));
    data.init("main", "blake3");
    let added = Hook::add(&data, "github", "github", &[]);
    let server = Server::start(&data, &[]);
    assert_eq!(added.deliver(server.address(), "ping", "d1", b"{}").status, 201);
    let errors = server.errors();
    assert!(
        errors.contains("`counterfoild setup` will not see this server"),
        "{errors}"
    );
    server.stop();
}
