//! `counterfoild serve`: opens the logs, listens, drains, stops.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use axum::{Router, extract::Request, middleware};
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser as _},
};
use counterfoil_log::{DataDirectory, Log, LogName, LogOptions, WithoutQuorum, verifier_keys};
use counterfoil_note::VerifierKey;
use counterfoil_proto::{
    DESCRIPTORS,
    v1::{read_service_server::ReadServiceServer, submit_service_server::SubmitServiceServer},
};
use counterfoil_tls::{Tls, TlsFiles};
use futures_util::{StreamExt as _, future::join_all, stream};
use rustix::thread::disable_transparent_huge_pages;
use tokio::{
    runtime::{Handle, Runtime},
    signal::unix::{SignalKind, signal},
    sync::watch,
    task,
    time::timeout,
};
use tokio_stream::wrappers::WatchStream;
use tonic::{server::NamedService as _, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::util::MapRequestLayer;
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use crate::{
    access::{Access, Caller, Settings, config_path, turn_away},
    connections,
    deliveries::Deliveries,
    grpc::{
        MAX_QUESTION_BYTES, MAX_READ_REQUEST_BYTES, MAX_SUBMIT_MESSAGE_BYTES, MessageBudget, Reader,
        Submitter,
    },
    http,
    intake::admit_somewhere,
    local,
    logs::Logs,
    metrics::Metrics,
    open_files::{open_files, raise_file_limit, warn_of_few_files},
    owner::ensure_owner,
    print::print_line,
    witnessing::{Witnesses, gather},
};

/// How long calls may take to end once the server was told to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Threads that may wait for the disk at a time. More would not have it answer sooner, and each holds on to memory.
const DISK_THREADS: usize = 32;

/// Serves every log of a data directory on one port: over gRPC, and as C2SP tlog-tiles over HTTP under /logs/NAME/. Prints
/// `listening on ADDR` when it is ready. SIGTERM or SIGINT drains and stops; SIGHUP changes nothing, unless its terminal went
/// away.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  counterfoild serve --data ./data --anchor /mnt/other-disk/anchors
  counterfoild serve --data ./data --witness-policy ./witnesses.policy

Without DATA/access.toml, whoever can reach the port can submit and read all. docs/ACCESS.md has what to write into it.
RUST_LOG sets what is logged to standard error, such as RUST_LOG=debug.")]
pub(crate) struct Arguments {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7480")]
    listen: SocketAddr,
    /// Serve GET /metrics at this address, and GET /health, in plain HTTP. Keep it on loopback or a private network
    #[arg(long, value_name = "ADDR")]
    metrics_listen: Option<SocketAddr>,
    /// The server's certificate chain (PEM); turns TLS on
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The secret key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Listen beyond this machine without TLS: anyone on the way can read and change what is sent
    #[arg(long)]
    insecure_plaintext_on_network: bool,
    /// A directory, best on another disk, that keeps the newest head each log signed for publication. The server refuses to start a
    /// log that is older
    #[arg(long, value_name = "DIR")]
    anchor: Option<PathBuf>,
    /// Memory for each log's database and tiles, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 320, value_parser = clap::value_parser!(u32).range(32..))]
    memory_mib: u32,
    /// Refuse submissions when free space is below this plus one batch (32 MiB), in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    min_free_mib: u32,
    /// Publish a head this often if the log grew, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    publish_interval_ms: u32,
    /// A C2SP tlog-policy with the witnesses to ask, each with its URL, and the quorum that a head needs to be published. One
    /// for all logs; if it has `log` lines, all of them must be there
    #[arg(long, value_name = "FILE")]
    pub(crate) witness_policy: Option<PathBuf>,
    /// How long a witness may take to answer, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5000, requires = "witness_policy",
          value_parser = clap::value_parser!(u32).range(10..=60_000))]
    pub(crate) witness_timeout_ms: u32,
    /// What to do with a head that no quorum cosigns: `hold` it back, so that readers keep the one before, or `publish` it
    /// with the cosignatures that there are
    #[arg(long, value_name = "hold|publish", default_value = "hold", requires = "witness_policy",
          value_parser = PossibleValuesParser::new(["hold", "publish"]).map(|word| without_quorum(&word)))]
    pub(crate) without_quorum: WithoutQuorum,
}

fn without_quorum(word: &str) -> WithoutQuorum {
    match word {
        "publish" => WithoutQuorum::Publish,
        _ => WithoutQuorum::Hold,
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // It would be told on standard error, and a terminal that went away or a full disk would end the server.
        .log_internal_errors(false)
        .init();
    ensure_owner(&arguments.data)?;
    // The allocator asks for them. Long messages have it give memory back and take it again, and of that the system would clear 2 MiB
    // at each touch: a third of a core in an overload. Where it can't be had, the server is slower then.
    let _ = disable_transparent_huge_pages(true);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(DISK_THREADS)
        .enable_all()
        .build()
        .context("can't start the runtime")?;
    let (settings, tls) = {
        let _within = runtime.enter();
        let settings = Settings::start(&arguments.data)?;
        let tls = start_tls(arguments, &settings)?;
        (settings, tls)
    };
    let file_limit = raise_file_limit();
    warn_of_few_files(file_limit);
    let witnesses = Witnesses::from_arguments(arguments)?.map(Arc::new);
    let logs = open_logs(arguments, witnesses.as_deref(), file_limit, &runtime)?;
    let result = runtime.block_on(serve(arguments, tls, settings, witnesses, logs.clone()));
    // With it ends whoever would publish.
    drop(runtime);
    for log in logs.values() {
        log.stop();
        info!(log = %log.name(), size = %log.commit_head().size, "closed");
    }
    result.map(|()| ExitCode::SUCCESS)
}

/// Has to be called within a runtime.
fn start_tls(arguments: &Arguments, settings: &Settings) -> anyhow::Result<Option<Tls>> {
    let authorities = settings.client_authorities();
    if !settings.are_given() {
        warn!(
            "whoever reaches {}, through a proxy too, can submit and read all: {} would say who may do what",
            arguments.listen,
            config_path(&arguments.data).display()
        );
    }
    let (Some(cert), Some(key)) = (&arguments.tls_cert, &arguments.tls_key) else {
        anyhow::ensure!(
            authorities().is_none(),
            "{} has [mtls], and client certificates need TLS. Give --tls-cert and --tls-key",
            config_path(&arguments.data).display()
        );
        anyhow::ensure!(
            arguments.listen.ip().is_loopback() || arguments.insecure_plaintext_on_network,
            "{} can be reached from other machines, and there is no TLS. Give --tls-cert and --tls-key, or, if something in front \
             of the server encrypts, --insecure-plaintext-on-network",
            arguments.listen
        );
        return Ok(None);
    };
    let files = TlsFiles {
        certificate: cert.clone(),
        key: key.clone(),
    };
    let tls = Tls::start(files, connections::PROTOCOLS, authorities).context("TLS can't be set up")?;
    Ok(Some(tls))
}

fn open_logs(
    arguments: &Arguments,
    witnesses: Option<&Witnesses>,
    file_limit: u64,
    runtime: &Runtime,
) -> anyhow::Result<Logs> {
    let data = DataDirectory::new(&arguments.data);
    let names = data.logs().with_context(|| {
        format!(
            "can't list the logs of {}. Make one with `counterfoild init`",
            arguments.data.display()
        )
    })?;
    anyhow::ensure!(
        !names.is_empty(),
        "{} holds no logs. Make one with `counterfoild init`",
        arguments.data.display()
    );
    if let Some(anchor) = &arguments.anchor {
        // Made here, it would hide that the disk it belongs to is not mounted, and so the heads on it.
        anyhow::ensure!(
            anchor.is_dir(),
            "the anchor directory {} is not there. Mount its disk; if it is new, make it",
            anchor.display()
        );
    }
    let options = LogOptions {
        memory_bytes: mebibytes(arguments.memory_mib),
        open_files: open_files(file_limit, names.len()),
        publish_interval: Duration::from_millis(arguments.publish_interval_ms.into()),
        min_free_bytes: mebibytes(arguments.min_free_mib) as u64,
        anchor: arguments.anchor.clone(),
        ..LogOptions::default()
    };
    let keys = keys_of(&data, names)?;
    // For all logs at once, or a witness that hangs would keep the server shut for each in turn; and before any is opened: an open
    // log has signed.
    let asked = keys.iter().map(async |(name, keys)| match witnesses {
        Some(witnesses) => witnesses.witnessing(name, keys).await.map(Some),
        None => Ok(None),
    });
    let witnessing = runtime.block_on(join_all(asked));
    let mut logs = BTreeMap::new();
    for (name, witnessing) in keys.into_keys().zip(witnessing) {
        let shut = || format!("the log `{name}` stays shut");
        let options = LogOptions {
            witnessing: witnessing.with_context(shut)?,
            ..options.clone()
        };
        let log = Log::open(&data, &name, options).with_context(shut)?;
        let head = log.commit_head();
        info!(log = %name, origin = %head.origin, suite = %log.suite(), size = %head.size, root = %head.root, "open");
        logs.insert(name, Arc::new(log));
    }
    Ok(Arc::new(logs))
}

/// What verifies the heads of each log. Two that sign as one would make two histories of it, each sound in itself.
fn keys_of(data: &DataDirectory, names: Vec<LogName>) -> anyhow::Result<BTreeMap<LogName, Vec<VerifierKey>>> {
    let (mut keys, mut origins) = (BTreeMap::new(), BTreeMap::<String, LogName>::new());
    for name in names {
        let own = verifier_keys(data, &name).with_context(|| format!("the log `{name}` stays shut"))?;
        let origin = own[0].name().to_string();
        if let Some(other) = origins.get(&origin) {
            anyhow::bail!(
                "`{other}` and `{name}` both sign as {origin}, and only one log may: is one a copy? Move it out of logs/"
            );
        }
        origins.insert(origin, name.clone());
        keys.insert(name, own);
    }
    Ok(keys)
}

fn mebibytes(count: u32) -> usize {
    usize::try_from(count)
        .unwrap_or(usize::MAX)
        .saturating_mul(1024 * 1024)
}

async fn serve(
    arguments: &Arguments,
    tls: Option<Tls>,
    settings: Settings,
    witnesses: Option<Arc<Witnesses>>,
    logs: Logs,
) -> anyhow::Result<()> {
    let stop_signal = stop_signal()?;
    let metrics = Metrics::new();
    let access = Access::start(settings, &arguments.data, &logs, &metrics).await?;
    let listener = connections::listen(arguments.listen)
        .with_context(|| format!("can't listen on {}", arguments.listen))?;
    let address = listener
        .local_addr()
        .context("can't tell the address listened on")?;
    let (stop, stopping) = watch::channel(false);
    serve_metrics(arguments, &metrics, &logs, tls.clone(), &stopping).await?;

    let (grpc, health) = grpc(&logs, &stopping).await?;
    let telling = task::spawn(tell_intake(health.clone(), logs.clone()));
    let deliveries = Deliveries::default();
    let router = http::add_to(
        grpc,
        &arguments.data,
        logs.clone(),
        metrics.clone(),
        deliveries.clone(),
    )?;
    let router = access.guard(router, deliveries.clone());
    // Nothing refuses the start any more: until here no head goes to a witness.
    for (log, witnesses) in logs.values().zip(witnesses.iter().cycle()) {
        task::spawn(gather(log.clone(), witnesses.clone()));
    }
    local::serve(&arguments.data, deliveries);
    let mut serving = task::spawn(connections::serve(
        listener,
        tls,
        router,
        metrics,
        stopping,
        Some(Handle::current()),
    ));
    // It may be a file on a full disk, which is no reason to serve nobody.
    if let Err(problem) = print_line(format_args!("listening on {address}")) {
        warn!(%address, %problem, "listening, which can't be said on standard output");
    }

    tokio::select! {
        () = stop_signal => {}
        // A process that is there and serves nobody would be taken for well.
        ended = &mut serving => {
            ended.context("the server failed")?.context("can't serve")?;
            anyhow::bail!("nothing is accepted any more");
        }
    }
    info!("stopping: calls under way have {} s to end", DRAIN.as_secs());
    // It would set anew what is cleared next.
    telling.abort();
    let _ = telling.await;
    withdraw(health).await;
    stop.send_replace(true);
    match timeout(DRAIN, serving).await {
        Ok(served) => served.context("the server failed")?.context("can't serve"),
        Err(_) => {
            warn!("some calls did not end in time and were cut off");
            Ok(())
        }
    }
}

/// The services over gRPC, and what tells that they are served.
async fn grpc(logs: &Logs, stopping: &watch::Receiver<bool>) -> anyhow::Result<(Router, HealthReporter)> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<SubmitServiceServer<Submitter>>().await;
    health.set_serving::<ReadServiceServer<Reader>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;

    let submitter = SubmitServiceServer::new(Submitter::new(logs.clone(), stopping.clone()))
        .max_decoding_message_size(MAX_SUBMIT_MESSAGE_BYTES);
    let reader = ReadServiceServer::new(Reader::new(logs.clone(), stopping.clone()))
        .max_decoding_message_size(MAX_READ_REQUEST_BYTES);
    let guarded = |service: Routes, messages: MessageBudget| {
        service
            .into_axum_router()
            .layer(MapRequestLayer::new(move |call: Request| messages.limit(call)))
            .layer(middleware::from_fn(turn_away))
    };
    let submits = Routes::from(Router::new()).add_service(submitter);
    let reads = Routes::from(Router::new()).add_service(reader);
    let with_room = {
        let logs = logs.clone();
        MessageBudget::new(move |call| {
            let (logs, caller) = (logs.clone(), Caller::of(call));
            // What other logs have is no business of the caller's.
            Box::new(move |bytes| {
                let open_to_caller = logs.iter().filter(|(name, _)| caller.require(name).is_ok());
                admit_somewhere(open_to_caller.map(|(_, log)| log), bytes)
            })
        })
    };
    let questions = MessageBudget::of_requests(MAX_QUESTION_BYTES);
    let router = Routes::from(Router::new())
        .add_service(health_service.max_decoding_message_size(MAX_QUESTION_BYTES))
        .add_service(reflection.max_decoding_message_size(MAX_QUESTION_BYTES))
        .into_axum_router()
        .layer(MapRequestLayer::new(move |call: Request| questions.limit(call)))
        .merge(guarded(submits, with_room))
        .merge(guarded(reads, MessageBudget::of_requests(MAX_READ_REQUEST_BYTES)));
    Ok((router, health))
}

/// Tells by gRPC's health that nothing is served any more.
async fn withdraw(mut health: HealthReporter) {
    for service in [
        "",
        SubmitServiceServer::<Submitter>::NAME,
        ReadServiceServer::<Reader>::NAME,
    ] {
        health
            .set_service_status(service, ServingStatus::NotServing)
            .await;
        // This ends the calls that watch it, which would hold up the stop.
        health.clear_service_status(service).await;
    }
}

/// Tells by gRPC's health whether every log takes events, whenever that changes for one of them.
async fn tell_intake(health: HealthReporter, logs: Logs) {
    let changes = logs.values().map(|log| WatchStream::new(log.watch_intake()));
    let mut changes = stream::select_all(changes);
    while changes.next().await.is_some() {
        let status = match logs.values().all(|log| log.takes_events()) {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        health
            .set_service_status(SubmitServiceServer::<Submitter>::NAME, status)
            .await;
    }
}

/// On a port of its own, so that who scrapes needs no access to the logs, and who has that sees no metrics.
async fn serve_metrics(
    arguments: &Arguments,
    metrics: &Metrics,
    logs: &Logs,
    tls: Option<Tls>,
    stopping: &watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let Some(address) = arguments.metrics_listen else {
        return Ok(());
    };
    let listener =
        connections::listen(address).with_context(|| format!("can't serve metrics at {address}"))?;
    info!(address = %listener.local_addr()?, "serving metrics");
    let router = metrics.router(logs.clone(), tls);
    let serving = connections::serve(listener, None, router, metrics.clone(), stopping.clone(), None);
    task::spawn(async {
        if let Err(problem) = serving.await {
            error!(%problem, "metrics are not served any more");
        }
    });
    Ok(())
}

/// Ends at the first SIGTERM or SIGINT after this call, or SIGHUP of a terminal that goes away; from then on none of them kills
/// the process.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("can't wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't wait for SIGINT")?;
    let mut hang_up = signal(SignalKind::hangup()).context("can't wait for SIGHUP")?;
    // One that is gone is none any more.
    let has_terminal = io::stderr().is_terminal();
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hang_up.recv() => {}
            }
            if has_terminal {
                return;
            }
            info!("SIGHUP changes nothing: files are followed by themselves");
        }
    })
}
