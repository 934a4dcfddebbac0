//! `counterfoil verify --evidence`, and evidence of what the other commands meet.

use std::{
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use counterfoil_note::{Policy, UnixMillis, VerifierKey};
use counterfoil_verify::{Basis, Evidence, Fact, MAX_EVIDENCE_TEXT_BYTES, Verdict};
use serde_json::json;

use crate::{
    failure::Failure,
    files,
    options::Common,
    output::{self, Facts, Output, TreeHead, indented},
};

/// Checks a file offline, under the keys of the policy.
pub(crate) fn run(path: &Path, common: &Common, output: &Output) -> Result<(), Failure> {
    let policy = common.policy()?;
    let evidence = read(path)?;
    let verdict = evidence
        .check(&keys(&policy))
        .map_err(|error| Failure::untrusted(format!("{} proves nothing: {error}", path.display())))?;
    report(&evidence, &verdict, output);
    Ok(())
}

fn read(path: &Path) -> Result<Evidence, Failure> {
    let bytes = files::read(path, MAX_EVIDENCE_TEXT_BYTES)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Failure::untrusted(format!("{} is not evidence: it is not text", path.display())))?;
    Evidence::from_text(text).map_err(|error| Failure::untrusted(format!("{}: {error}", path.display())))
}

fn keys(policy: &Policy) -> Vec<VerifierKey> {
    policy.logs().iter().map(|log| log.key.clone()).collect()
}

fn report(evidence: &Evidence, verdict: &Verdict, output: &Output) {
    let mut facts = Facts::default();
    facts
        .add("log", verdict.origin())
        .add("fact", evidence.fact.name());
    for head in verdict.heads() {
        let signed = format!("{}, signed {}", output::head_line(head), output::signed(head));
        facts.add("head", signed);
    }
    for proved in verdict.proved() {
        facts.add("proved", proved);
    }
    let observed = output::millis(evidence.observed.get());
    facts.add("observed", format!("{observed}, says whoever made the file"));
    let heading = match verdict.basis() {
        Basis::LogSignatures => "The evidence holds, on the log's own signatures: the log misbehaved.",
        Basis::ObserversWord => "The evidence holds, in part on the word of whoever made the file.",
    };
    let proved = indented(&facts.to_string());
    let not_proved = indented(&verdict.not_proved().join("\n"));
    let json = json!({
        "holds": true,
        "origin": verdict.origin().to_string(),
        "fact": evidence.fact.name(),
        "basis": verdict.basis().as_str(),
        "observed_unix_ms": evidence.observed.get(),
        "tree_heads": verdict.heads().iter().map(TreeHead::from).collect::<Vec<_>>(),
        "proved": verdict.proved(),
        "not_proved": verdict.not_proved(),
    });
    output.print(
        json,
        format!("{heading} It proves:\n{proved}It does not prove:\n{not_proved}"),
    );
}

/// Writes what a command met into the state directory, if it is evidence for others too. Says so in the failure.
pub(crate) fn keep(failure: Failure, common: &Common) -> Failure {
    let Some(fact) = failure.fact().cloned() else {
        return failure;
    };
    match written(fact, common) {
        Ok(Some(path)) => failure.with_evidence(&path),
        Ok(None) => failure,
        Err(problem) => failure.hint(format!("the evidence could not be kept: {}", problem.message())),
    }
}

/// None if it proves nothing to others, such as a smaller head that was signed before the larger.
fn written(fact: Fact, common: &Common) -> Result<Option<PathBuf>, Failure> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let evidence = Evidence {
        observed: UnixMillis::new(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)),
        fact,
    };
    let Ok(verdict) = evidence.check(&keys(&common.policy()?)) else {
        return Ok(None);
    };
    let kept = common.state()?.keep_evidence(verdict.origin(), &evidence);
    kept.map(Some).map_err(|error| Failure::usage(error.to_string()))
}
