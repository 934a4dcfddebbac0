//! The commands, one file each.

mod bench;
mod dsse;
mod evidence;
mod find;
mod get;
mod head;
mod import;
mod monitor;
mod outbox;
mod policy;
mod prove;
mod receipt;
mod run;
mod select;
mod submit;
mod verify;
mod witness;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::{failure::Failure, options::Common, output::Output};

// A command that talks to a log: what it takes itself, and which log. No documentation: it would take the place of the
// command's own.
#[derive(Args)]
pub(crate) struct OfLog<A: Args> {
    #[command(flatten)]
    arguments: A,
    #[command(flatten)]
    common: Common,
}

impl<A: Args> OfLog<A> {
    /// Runs the command, and keeps what it meets that is evidence for others too.
    async fn run<T>(
        self,
        command: impl AsyncFnOnce(A, &Common, &Output) -> Result<T, Failure>,
        output: &Output,
    ) -> Result<T, Failure> {
        let Self { arguments, common } = self;
        let done = Box::pin(command(arguments, &common, output)).await;
        done.map_err(|failure| evidence::keep(failure, &common))
    }
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Submit(OfLog<submit::Arguments>),
    Run(OfLog<run::Arguments>),
    #[command(subcommand)]
    Outbox(outbox::Outbox),
    Head(OfLog<head::Arguments>),
    Get(OfLog<get::Arguments>),
    Find(OfLog<find::Arguments>),
    #[command(subcommand)]
    Prove(prove::Prove),
    Receipt(OfLog<receipt::Arguments>),
    Verify(OfLog<verify::Arguments>),
    #[command(subcommand)]
    Policy(policy::Policy),
    #[command(subcommand)]
    Import(import::Import),
    #[command(subcommand)]
    Witness(witness::Witness),
    Monitor(monitor::Arguments),
    #[command(subcommand)]
    Bench(bench::Bench),
}

impl Command {
    pub(crate) async fn run(self, output: &Output) -> Result<ExitCode, Failure> {
        let done = match self {
            // It ends as the command that it runs.
            Self::Run(command) => return command.run(run::run, output).await,
            Self::Submit(command) => command.run(submit::run, output).await,
            Self::Outbox(outbox) => outbox::run(outbox, output).await,
            Self::Head(command) => command.run(head::run, output).await,
            Self::Get(command) => command.run(get::run, output).await,
            Self::Find(command) => command.run(find::run, output).await,
            Self::Prove(prove) => prove::run(prove, output).await,
            Self::Receipt(command) => command.run(receipt::run, output).await,
            Self::Verify(command) => command.run(verify::run, output).await,
            Self::Policy(policy) => policy::run(&policy, output),
            Self::Import(import) => import::run(import, output).await,
            Self::Witness(witness) => witness::run(witness, output).await,
            Self::Monitor(arguments) => monitor::run(arguments, output).await,
            Self::Bench(bench) => bench::run(bench, output).await,
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}
