//! `counterfoil witness`

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Subcommand};
use counterfoil_note::Origin;
use counterfoil_witness::{DataDirectory, ServeError, ServeOptions, TlsFiles, serve};
use serde_json::json;

use crate::{
    failure::{Exit, Failure},
    output::Output,
    service,
};

/// Cosign the heads of other people's logs
#[derive(Subcommand)]
pub(crate) enum Witness {
    Init(Init),
    Serve(Serve),
}

/// Make a witness with a new key, and print its public key
#[derive(Args)]
#[command(after_help = "\
Example:
  counterfoil witness init --data ./witness --name witness.example.com/w1

The printed line is what logs and those who rely on them configure. The secret key is in DIR/witness.key: back it up,
and never run two witnesses with it.")]
pub(crate) struct Init {
    /// The witness's directory; made if it is not there
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The witness's name for the world: a host and path of yours, without a scheme
    #[arg(long, value_name = "NAME", value_parser = Origin::for_new)]
    name: Origin,
}

/// Answer add-checkpoint requests (C2SP tlog-witness) until SIGTERM or SIGINT
#[derive(Args)]
#[command(after_help = "\
Example:
  sed 's/^/log /' log.vkey > logs
  counterfoil witness serve --data ./witness --logs ./logs

The logs file is read again when it changes, and at SIGHUP. A file with a mistake changes nothing: standard error
has the line. Prints `listening on ADDR` when it is ready. RUST_LOG sets what is written to standard error.")]
pub(crate) struct Serve {
    /// The directory that `counterfoil witness init` made
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The logs to cosign for: a file of lines `log VKEY [URL]`
    #[arg(long, value_name = "FILE")]
    logs: PathBuf,
    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7490")]
    listen: SocketAddr,
    /// The certificate chain (PEM); turns TLS on
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The secret key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Listen beyond this machine without TLS: only where something in front encrypts
    #[arg(long)]
    insecure_plaintext_on_network: bool,
}

pub(crate) async fn run(witness: Witness, output: &Output) -> Result<(), Failure> {
    match witness {
        Witness::Init(arguments) => init(arguments, output),
        Witness::Serve(arguments) => serve_until_told(arguments, output).await,
    }
}

fn init(arguments: Init, output: &Output) -> Result<(), Failure> {
    let key = DataDirectory::new(arguments.data)
        .init(arguments.name)
        .map_err(|error| Failure::usage(error.to_string()))?;
    output.print(json!({ "vkey": key.to_string() }), key);
    Ok(())
}

async fn serve_until_told(arguments: Serve, output: &Output) -> Result<(), Failure> {
    service::log_to_standard_error();
    let options = ServeOptions {
        tls: tls(&arguments)?,
        data: DataDirectory::new(arguments.data),
        logs: arguments.logs,
        listen: arguments.listen,
    };
    let stop = service::stop_signal()?;
    let listening = |address: SocketAddr| {
        output.print(
            json!({ "listening": address.to_string() }),
            format!("listening on {address}"),
        );
    };
    serve(options, listening, stop)
        .await
        .map_err(|error| match error {
            ServeError::State(_) => Failure::new(Exit::Unavailable, error.to_string())
                .hint("nothing was cosigned that is not on disk; look at the disk, then start again"),
            _ => Failure::usage(error.to_string()),
        })
}

fn tls(arguments: &Serve) -> Result<Option<TlsFiles>, Failure> {
    let (Some(certificate), Some(key)) = (&arguments.tls_cert, &arguments.tls_key) else {
        if arguments.listen.ip().is_loopback() || arguments.insecure_plaintext_on_network {
            return Ok(None);
        }
        let listen = arguments.listen;
        return Err(
            Failure::usage(format!("{listen} can be reached from other machines, and there is no TLS")).hint(
                "give --tls-cert and --tls-key or, if something in front encrypts, --insecure-plaintext-on-network",
            ),
        );
    };
    Ok(Some(TlsFiles {
        certificate: certificate.clone(),
        key: key.clone(),
    }))
}
