//! Paths that mean another place, and names that look like others.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Stdio;

use counterfoil_tests::{Data, Server, counterfoil, event, http_get, http_post, submit};

/// Ways out of a path's place, or to spell it in another way. None is understood, on any of the paths that there are.
const TRICKS: [&str; 24] = [
    "..",
    "../..",
    "./main",
    "%2e%2e",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "..%2f..%2f..%2f..%2fetc%2fpasswd",
    "..%5c..%5c",
    "main%2f..%2fmain",
    "main%2fcheckpoint",
    "main/../main/checkpoint",
    "main//checkpoint",
    "/main/checkpoint",
    "main/./checkpoint",
    "main%00",
    "%00",
    "main/checkpoint%00.txt",
    "%c0%ae%c0%ae/",
    "%e0%80%af",
    "%ff",
    "%",
    "%2",
    "MAIN/checkpoint",
    "ma%69n%2Fcheckpoint",
    "main/checkpoint/",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_lead_nowhere_else() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let json = [("content-type", "application/json")];
    for trick in TRICKS {
        for place in ["/", "/logs/", "/logs/main/tile/", "/services/collector/"] {
            let answer = http_get(server.address(), &format!("{place}{trick}"));
            assert!(
                (400..500).contains(&answer.status),
                "{place}{trick}: {}",
                answer.status
            );
            assert!(
                !String::from_utf8_lossy(&answer.body).contains("root:"),
                "{place}{trick}"
            );
        }
        let answer = http_post(server.address(), &format!("/hooks/{trick}"), &json, b"{}");
        assert!(
            (400..500).contains(&answer.status),
            "/hooks/{trick}: {}",
            answer.status
        );
    }
    let (receipt, _) = submit(&mut server.submitter(), &log, event("after", ""))
        .await
        .unwrap();
    assert_eq!(receipt.index().get(), 1);
    server.stop();
}

/// To people these look alike, to the log they are names of their own: it neither folds nor drops anything. What is printed
/// for people shows that there is something which is not to be seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_look_alike_are_names_of_their_own() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let names = [
        "caf\u{e9}",
        "cafe\u{301}",
        "caf\u{435}",
        "cafe",
        "ca\u{200b}fe",
        "ca\u{ad}fe",
        "\u{feff}cafe",
        "\u{202e}efac",
        "\u{2066}cafe\u{2069}",
        "\u{ff43}afe",
        "CAFE",
    ];
    let mut client = server.submitter();
    for (place, name) in (1..).zip(names) {
        let mut sent = event(name, "");
        sent.subject = format!("for {name}");
        let (receipt, duplicate) = submit(&mut client, &log, sent).await.unwrap();
        assert_eq!((receipt.index().get(), duplicate), (place, false), "{name:?}");
    }
    let show = |index: usize, options: &[&str]| {
        let shown = counterfoil()
            .args(["get", &index.to_string(), "--server"])
            .arg(format!("http://{}", server.address()))
            .args(["--log-key", &log.key().to_string(), "--state-dir"])
            .arg(data.beside("state"))
            .args(options)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(shown.status.success(), "{shown:?}");
        String::from_utf8(shown.stdout).unwrap()
    };
    for (index, name) in (1..).zip(names) {
        let shown = show(index, &[]);
        let hidden = [
            '\u{200b}', '\u{ad}', '\u{feff}', '\u{202e}', '\u{2066}', '\u{2069}',
        ];
        assert!(!shown.contains(hidden), "{shown}");
        assert_eq!(shown.contains('\u{fffd}'), name.contains(hidden), "{shown}");
        let json: serde_json::Value = serde_json::from_str(&show(index, &["--json"])).unwrap();
        assert!(json.to_string().contains(name), "{json}");
    }
    // The log's own names are of plain characters, so that none looks like another.
    for name in ["m\u{430}in", "main\u{200b}", "\u{202e}niam", "ma\u{131}n", "MAIN"] {
        let mut request = counterfoil_tests::submission(event("x", ""));
        request.log = name.to_owned();
        let refused = client.submit(request).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::NotFound, "{name:?}: {refused:?}");
    }
    server.stop();
    data.assert_sound();
}
