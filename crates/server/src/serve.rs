//! `counterfoild serve`: opens the logs, listens, drains, stops.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use axum::{Router, extract::Request, middleware};
use counterfoil_log::{DataDirectory, Log, LogName, LogOptions, verifier_keys};
use counterfoil_note::VerifierKey;
use counterfoil_proto::{
    DESCRIPTORS,
    v1::{read_service_server::ReadServiceServer, submit_service_server::SubmitServiceServer},
};
use counterfoil_tls::{Tls, TlsFiles};
use futures_util::{StreamExt as _, future::join_all, stream};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
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
    access::{Access, Settings, config_path, turn_away},
    cli::Serve,
    connections,
    deliveries::Deliveries,
    grpc::{MAX_QUESTION_BYTES, MAX_READ_REQUEST_BYTES, MAX_SUBMIT_MESSAGE_BYTES, Reader, Room, Submitter},
    http, local,
    logs::Logs,
    metrics::Metrics,
    owner::ensure_owner,
    print::print_line,
    witnessing::{Witnesses, gather},
};

/// How long calls may take to end once the server was told to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Threads that may wait for the disk at a time. More would not have it answer sooner, and each holds on to memory.
const DISK_THREADS: usize = 32;

/// Files that a database may have open, however few the system allows: with fewer it would open tables all the time.
const MIN_OPEN_FILES: usize = 128;
/// As many tables as a log of 100 million entries has, and as many again.
const MAX_OPEN_FILES: usize = 8_192;

pub(crate) fn run(arguments: &Serve) -> anyhow::Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // It would be told on standard error, and a terminal that went away or a full disk would end the server.
        .log_internal_errors(false)
        .init();
    ensure_owner(&arguments.data)?;
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

/// Databases and connections take file descriptors, and the limit that a process starts with is often low for the sake of
/// programs from long ago. A database that runs out of them can't write. Returns the limit now.
pub(crate) fn raise_file_limit() -> u64 {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        ..before
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => before.maximum,
        Err(problem) => {
            warn!(%problem, "can't raise the limit of open files");
            before.current
        }
    };
    // There may be none.
    limit.unwrap_or(u64::MAX)
}

fn warn_of_few_files(limit: u64) {
    if limit / 2 < connections::MAX_FILES {
        warn!(
            limit,
            "the limit of open files is low: connections alone may take {}, and a database that can't open a file stops writing. \
             Raise it (LimitNOFILE, --ulimit nofile)",
            connections::MAX_FILES
        );
    }
}

/// How many files each of so many databases may have open: half of the limit is theirs, the other for connections.
fn open_files(limit: u64, databases: usize) -> usize {
    let share = usize::try_from(limit / 2).unwrap_or(usize::MAX) / databases.max(1);
    share.clamp(MIN_OPEN_FILES, MAX_OPEN_FILES)
}

/// Has to be called within a runtime.
fn start_tls(arguments: &Serve, settings: &Settings) -> anyhow::Result<Option<Tls>> {
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
    arguments: &Serve,
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
    arguments: &Serve,
    tls: Option<Tls>,
    settings: Settings,
    witnesses: Option<Arc<Witnesses>>,
    logs: Logs,
) -> anyhow::Result<()> {
    let stop_signal = stop_signal()?;
    let access = Access::start(settings, &arguments.data, &logs).await?;
    let listener = connections::listen(arguments.listen)
        .with_context(|| format!("can't listen on {}", arguments.listen))?;
    let address = listener
        .local_addr()
        .context("can't tell the address listened on")?;
    let (stop, stopping) = watch::channel(false);
    let metrics = Metrics::default();
    serve_metrics(arguments, &metrics, &logs, tls.clone(), &stopping).await?;

    let (mut health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<SubmitServiceServer<Submitter>>().await;
    health.set_serving::<ReadServiceServer<Reader>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;

    let telling = task::spawn(tell_intake(health.clone(), logs.clone()));

    let submitter = SubmitServiceServer::new(Submitter::new(logs.clone(), stopping.clone()))
        .max_decoding_message_size(MAX_SUBMIT_MESSAGE_BYTES);
    let reader = ReadServiceServer::new(Reader::new(logs.clone(), stopping.clone()))
        .max_decoding_message_size(MAX_READ_REQUEST_BYTES);
    let room = Room::new();
    let services = Routes::from(Router::new())
        .add_service(submitter)
        .add_service(reader)
        .into_axum_router()
        .layer(MapRequestLayer::new(move |call: Request| room.bound(call)))
        .layer(middleware::from_fn(turn_away));
    let room = Room::of_questions();
    let grpc = Routes::from(Router::new())
        .add_service(health_service.max_decoding_message_size(MAX_QUESTION_BYTES))
        .add_service(reflection.max_decoding_message_size(MAX_QUESTION_BYTES))
        .into_axum_router()
        .layer(MapRequestLayer::new(move |call: Request| room.bound(call)))
        .merge(services);
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
    // It would set anew what is cleared here.
    telling.abort();
    let _ = telling.await;
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
    stop.send_replace(true);
    match timeout(DRAIN, serving).await {
        Ok(served) => served.context("the server failed")?.context("can't serve"),
        Err(_) => {
            warn!("some calls did not end in time and were cut off");
            Ok(())
        }
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
    arguments: &Serve,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_share_half_of_what_may_be_open() {
        assert_eq!(open_files(u64::MAX, 1), MAX_OPEN_FILES);
        assert_eq!(open_files(1 << 19, 100), (1 << 18) / 100);
        assert_eq!(open_files(8_192, 2), 2_048);
        assert_eq!(open_files(1_024, 3), 170);
        assert_eq!(open_files(1_024, 100), MIN_OPEN_FILES);
    }
}
