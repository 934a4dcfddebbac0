//! Waiting for the first delivery, and saying what goes wrong meanwhile.

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use jiff::SignedDuration;
use reqwest::{Client, StatusCode, header::CONTENT_TYPE, redirect};
use serde_json::Value;

use super::form::Form;
use crate::{
    cli::EXIT_FAILED,
    deliveries::{Delivery, Report},
    local::{Local, NotRunning},
    print::print_line,
};

/// How often the server is asked.
const PERIOD: Duration = Duration::from_millis(300);
/// How long a server may take to see a source that was just written: it looks each second.
const UPTAKE: Duration = Duration::from_millis(2_500);
/// How long our own request to the public URL may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Waits until the server has a delivery to the form's source on record, and shows where.
pub(super) fn for_delivery(form: &Form, data: &Path, patience: SignedDuration) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let waiting = Waiting {
        form,
        data,
        local: Local::new(data)?,
        seen: None,
        last: None,
        came: false,
        told: Vec::new(),
    };
    runtime
        .context("can't start the runtime")?
        .block_on(waiting.run(patience))
}

struct Waiting<'a> {
    form: &'a Form,
    data: &'a Path,
    local: Local,
    /// What was there before anybody could have entered anything. None until the server was reached.
    seen: Option<Seen>,
    /// The last delivery that was on record when the server was reached, in words.
    last: Option<String>,
    /// Whether a delivery came that was not recorded.
    came: bool,
    /// What was said already.
    told: Vec<String>,
}

/// Numbers of deliveries.
#[derive(Clone, Copy)]
struct Seen {
    taken: u64,
    refused: u64,
    stray: u64,
}

impl From<&Report> for Seen {
    fn from(report: &Report) -> Self {
        let number = |delivery: &Option<Delivery>| delivery.as_ref().map_or(0, |delivery| delivery.number);
        Self {
            taken: number(&report.taken),
            refused: number(&report.refused),
            stray: report.stray.as_ref().map_or(0, |(number, _)| *number),
        }
    }
}

impl Waiting<'_> {
    async fn run(mut self, patience: SignedDuration) -> anyhow::Result<ExitCode> {
        let deadline = Instant::now() + patience.unsigned_abs();
        eprintln!(
            "waiting for the first delivery, for {patience:#} at most (Ctrl-C ends the waiting and nothing else)"
        );
        while Instant::now() < deadline {
            match self.local.report(&self.form.id).await {
                Err(NotRunning) => self.tell(format!(
                    "no server runs on this data directory yet. In another terminal: counterfoild serve --data {}",
                    self.data.display()
                )),
                Ok(report) => {
                    let Some(seen) = self.seen else {
                        self.begin(&report).await;
                        continue;
                    };
                    if let Some(taken) = report.taken.as_ref().filter(|taken| taken.number > seen.taken) {
                        return self.show(taken);
                    }
                    self.explain(&report, seen);
                    // A server that was started anew counts from the beginning.
                    let now = Seen::from(&report);
                    self.seen = Some(Seen {
                        taken: seen.taken.min(now.taken),
                        ..now
                    });
                }
            }
            tokio::time::sleep(PERIOD).await;
        }
        self.give_up();
        Ok(ExitCode::from(EXIT_FAILED))
    }

    /// The server was reached for the first time.
    async fn begin(&mut self, report: &Report) {
        let before = Seen::from(report);
        self.last = report.taken.as_ref().map(|taken| {
            let answer: Value = serde_json::from_str(&taken.answer).unwrap_or_default();
            format!("`{}`, leaf {}", taken.event, answer["leaf_index"])
        });
        tokio::time::sleep(UPTAKE).await;
        let said = probe(&self.form.url).await;
        // What we sent was refused, as it has to be: that is how we know that it came here.
        let after = self.local.report(&self.form.id).await.unwrap_or_default();
        let came_here = Seen::from(&after).refused > before.refused;
        match said {
            Ok(_) if came_here => eprintln!("{} leads to this server", self.form.url),
            Ok(status) => eprintln!(
                "warning: at {} something answers with status {status}, and it is not this server, or not this data directory's",
                self.form.url
            ),
            Err(problem) => eprintln!(
                "warning: {} can't be reached from this machine: {problem}. {} may be able to",
                self.form.url,
                self.form.provider.title()
            ),
        }
        self.seen = Some(Seen {
            taken: before.taken,
            ..Seen::from(&after)
        });
    }

    fn show(&self, taken: &Delivery) -> anyhow::Result<ExitCode> {
        let answer: Value =
            serde_json::from_str(&taken.answer).context("the server's answer to the delivery")?;
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        let (leaf, log) = (&answer["leaf_index"], text("log"));
        let Form {
            id, server, log_key, ..
        } = self.form;
        let lines = [
            format!("The delivery `{}` is on record:\n", taken.event),
            format!("  log        {} ({log})", text("origin")),
            format!("  leaf       {leaf}"),
            format!("  leaf hash  {}", text("leaf_hash")),
            format!(
                "  head       size {}, root {}",
                answer["tree_size"],
                text("root_hash")
            ),
            "\nThis fetches its receipt, and checks it; where there is an access.toml, add --token-file with a token that may audit:\n"
                .to_owned(),
            format!(
                "  counterfoil receipt {leaf} --server {server} --log {log} --log-key {log_key} --output {id}-{leaf}.tlog-proof"
            ),
        ];
        print_line(lines.join("\n"))
            .with_context(|| format!("the delivery is on record as leaf {leaf}, which can't be printed"))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Says what to do about a delivery that was refused.
    fn explain(&mut self, report: &Report, seen: Seen) {
        if let Some(refused) = report
            .refused
            .as_ref()
            .filter(|refused| refused.number > seen.refused)
        {
            self.came = true;
            let advice = self.advice(refused);
            self.tell(format!("a delivery came and was refused: {advice}"));
        }
        if let Some((_, path)) = report.stray.as_ref().filter(|(number, _)| *number > seen.stray) {
            self.came = true;
            let advice = format!(
                "a delivery came to {path}, where there is no source: the URL has to be {}",
                self.form.url
            );
            self.tell(advice);
        }
    }

    fn advice(&self, refused: &Delivery) -> String {
        let answer: Value = serde_json::from_str(&refused.answer).unwrap_or_default();
        let error = &answer["error"];
        let again = self.form.how_to_test();
        match error["reason"].as_str().unwrap_or_default() {
            "WRONG_SIGNATURE" => format!(
                "the secret at {} is not this one. Enter it again, without spaces around it. {again}",
                self.form.provider.title()
            ),
            "MISSING_SIGNATURE" => format!("it is not signed. Enter the secret. {again}"),
            "WRONG_MEDIA_TYPE" => format!("its content type has to be application/json. {again}"),
            _ => {
                let message = error["message"].as_str().unwrap_or_default();
                format!("{message} (status {}). {again}", refused.status)
            }
        }
    }

    /// Says something, once.
    fn tell(&mut self, text: String) {
        if !self.told.contains(&text) {
            eprintln!("{text}");
            self.told.push(text);
        }
    }

    fn give_up(&self) {
        let Form {
            provider, url, id, ..
        } = self.form;
        let title = provider.title();
        eprintln!(
            "no delivery was recorded since this command began. The source `{id}` stays; the same command waits again."
        );
        if let Some(last) = &self.last {
            eprintln!("- The last one before is on record: {last}.");
        }
        if self.seen.is_none() {
            eprintln!("- No server ran on {} all the time.", self.data.display());
        } else if !self.came {
            eprintln!(
                "- Nothing came meanwhile, good or bad: {title} does not reach {url}, or has not sent anything."
            );
            eprintln!("  Is the name right, is the port open to it, does the certificate hold?");
        }
        eprintln!("- {}.", self.form.how_to_test());
    }
}

/// Posts what nobody signed to the public URL, as a provider would. Returns the status that came back.
async fn probe(url: &str) -> Result<StatusCode, String> {
    let client = Client::builder()
        .timeout(PROBE_TIMEOUT)
        .redirect(redirect::Policy::none())
        .build()
        .map_err(|problem| problem.to_string())?;
    let request = client
        .post(url)
        .header(CONTENT_TYPE, "application/json")
        .body("{}");
    // What is under an error says more than the error: that no connection came about, and why.
    let answer = request
        .send()
        .await
        .map_err(|problem| format!("{:#}", anyhow::Error::from(problem.without_url())))?;
    Ok(answer.status())
}
