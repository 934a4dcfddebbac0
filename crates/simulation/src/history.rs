//! The history of one log: made, opened, used, crashed and opened again, and audited each time.

use std::{
    path::{Path, PathBuf},
    ptr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use counterfoil_event::{Event, EventParts, IndexAttribute, IndexKey, Submitter, adapter::Adapter};
use counterfoil_log::{
    DataDirectory, ExportError, FsckDepth, Intake, LeafName, Log, LogName, LogOptions, OpenError,
    PublishError, SubmitError, TreeHead, WithoutQuorum, create_log, export, fsck, verifier_keys,
};
use counterfoil_merkle::{LeafIndex, Suite, TreeSize, verify_consistency};
use counterfoil_simulated_machine::{Counts, Machine, Node, Plan, Saved, Stop, machine};
use shuttle::{future::block_on, thread};

use crate::{
    promises::{Promises, Tally, broken},
    witnesses::Witnesses,
};

const DATA: &str = "/srv/data";
const ANCHOR: &str = "/mnt/anchor";
/// Whoever exports first makes it, and what it lies in.
const EXPORTED: &str = "/mnt/mirror/exported";
/// How often a log that is left alone is looked at, with time passing each time.
const MOST_LOOKS: u32 = 10_000;
/// How often to let others run until each of a log's threads has had many turns.
const TURNS: u32 = 500;
/// Events in a call, at most.
const LARGEST_CALL: u64 = 200;

/// What a history came to.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Crashes in which the process was killed.
    pub killed: u64,
    /// Crashes in which the power was lost.
    pub power_lost: u64,
    /// Starts that failed because a call did.
    pub refused_opens: u64,
    /// Old copies that were put back, and refused.
    pub rollbacks: u64,
    /// What the machine was asked for.
    pub counts: Counts,
    /// What the log promised.
    pub tally: Tally,
    /// The digest of all that happened.
    pub trace: [u8; 32],
}

impl Told {
    /// Crashes of both kinds. The log was opened and audited after each, or crashed again meanwhile.
    pub fn crashes(&self) -> u64 {
        self.killed + self.power_lost
    }

    /// Adds what another history came to, but for its trace.
    pub fn add(&mut self, other: &Self) {
        self.killed += other.killed;
        self.power_lost += other.power_lost;
        self.refused_opens += other.refused_opens;
        self.rollbacks += other.rollbacks;
        self.counts.add(&other.counts);
        self.tally.add(&other.tally);
    }

    fn count_stop(&mut self) {
        match machine(|machine| machine.stopped_by()) {
            Some(Stop::Killed) => self.killed += 1,
            Some(Stop::PowerLost) => self.power_lost += 1,
            None => {}
        }
    }
}

/// Chance, from the machine.
fn up_to(most: u64) -> u64 {
    machine(|machine| machine.chance().u64(..=most))
}

pub(crate) fn one_in(many: u64) -> bool {
    machine(|machine| machine.one_in(many))
}

fn has_stopped() -> bool {
    machine(|machine| machine.has_stopped())
}

fn any_stop() -> Stop {
    match one_in(3) {
        true => Stop::Killed,
        false => Stop::PowerLost,
    }
}

/// Runs a history of as many lives.
pub(crate) fn run(lives: u64) -> Told {
    let mut history = History::make();
    for _ in 0..lives {
        history.live();
    }
    history.end();
    history.put_back_an_old_copy();
    let mut told = history.told;
    told.tally = lock(&history.promises).tally.clone();
    machine(|machine| {
        told.counts = machine.counts().clone();
        told.trace = machine.trace();
    });
    told
}

struct History {
    data: DataDirectory,
    name: LogName,
    promises: Arc<Mutex<Promises>>,
    witnesses: Option<Arc<Witnesses>>,
    options: LogOptions,
    /// Copies of the log's directory while nobody had it open.
    copies: Vec<Saved>,
    told: Told,
}

fn lock(promises: &Mutex<Promises>) -> MutexGuard<'_, Promises> {
    promises.lock().expect("a broken promise ends everything")
}

/// A log in use, and what those who use it share.
struct Life {
    log: Log,
    promises: Arc<Mutex<Promises>>,
    witnesses: Option<Arc<Witnesses>>,
    /// Calls may fail.
    faulty: bool,
    /// Somebody told the log to stop.
    is_stopping: AtomicBool,
}

/// What may be the cause when a call of a client is refused, beside a log that was told to stop.
#[derive(Clone, Copy)]
struct Causes {
    /// Calls of the machine fail.
    faults: bool,
    /// Others may fill the queue.
    full_queue: bool,
}

impl History {
    /// Makes a log on a new machine, which may crash meanwhile: what was said to be made stays.
    fn make() -> Self {
        machine(|machine| {
            for path in ["/srv", "/mnt", ANCHOR] {
                let made = machine.files().create(Path::new(path), Node::directory(0o755));
                let above = Path::new(path).parent().map(|above| machine.files().find(above));
                machine.files().sync(made.expect("the disk is empty"));
                machine
                    .files()
                    .sync(above.expect("it has one").expect("it was made"));
            }
        });
        let (data, name) = (DataDirectory::new(DATA), LogName::default());
        let suite = match one_in(2) {
            true => Suite::Blake3,
            false => Suite::Sha256,
        };
        let mut told = Told::default();
        let keys = loop {
            let mut plan = Plan::default();
            if one_in(2) {
                plan.stop = Some((up_to(60), any_stop()));
            }
            if one_in(3) {
                plan.one_fault_in = Some(5 + up_to(20));
            }
            machine(|machine| machine.start(plan));
            let made = create_log(
                &data,
                &name,
                &"log.example/simulated".parse().expect("it is a name"),
                suite,
            );
            told.count_stop();
            match made {
                Ok(keys) => {
                    // Whoever is told at this moment that there is a log may lose power at the next.
                    if one_in(2) {
                        machine(|machine| machine.stop(Stop::PowerLost));
                        told.count_stop();
                    }
                    break keys;
                }
                Err(_) if has_stopped() => {}
                Err(_) if plan.one_fault_in.is_some() => machine(Machine::end_process),
                Err(problem) => broken!("a log can't be made: {problem}"),
            }
            // It may be there all the same: then as a whole.
            machine(|machine| machine.start(Plan::default()));
            if is_there(data.log(&name).path()) {
                let keys = match verifier_keys(&data, &name) {
                    Ok(keys) => keys,
                    Err(problem) => broken!("a log is there in part: {problem}"),
                };
                // Nobody was told of it, and its name may still go. After a start it may not.
                match Log::open(&data, &name, any_options()) {
                    Ok(log) => drop(log),
                    Err(problem) => broken!("a log that is there stays shut: {problem}"),
                }
                machine(Machine::end_process);
                break keys;
            }
        };
        let witnesses = match up_to(5) {
            0 => Some(Witnesses::new(WithoutQuorum::Hold)),
            1 => Some(Witnesses::new(WithoutQuorum::Publish)),
            _ => None,
        };
        Self {
            promises: Arc::new(Mutex::new(Promises::new(keys))),
            witnesses: witnesses.map(Arc::new),
            options: any_options(),
            data,
            name,
            copies: Vec::new(),
            told,
        }
    }

    /// One life: from the open to the crash.
    fn live(&mut self) {
        self.rest();
        let mut plan = Plan::default();
        if one_in(4) {
            plan.stop = Some((up_to(400), any_stop()));
        }
        if one_in(6) {
            plan.one_fault_in = Some(10 + up_to(100));
        }
        let Some(life) = self.open(plan) else { return };
        self.work(&life);
        // The stop of the log, which is a ghost's if the machine has stopped.
        drop(life);
        self.told.count_stop();
        machine(Machine::end_process);
    }

    /// After the last crash: the log is as it must be.
    fn end(&mut self) {
        self.rest();
        drop(self.open(Plan::default()));
        machine(Machine::end_process);
    }

    /// Between two lives: what lies on the disk has to keep its word by itself.
    fn rest(&mut self) {
        machine(|machine| machine.start(Plan::default()));
        if !is_there(self.data.log(&self.name).path()) {
            broken!("the log was said to be made, and is gone");
        }
        self.look_at_anchors();
        if one_in(8) {
            match fsck(&self.data, &self.name, FsckDepth::Payloads, |_| {}) {
                Ok(report) if report.findings.is_empty() => lock(&self.promises).tally.found_sound(),
                Ok(report) => broken!("fsck finds {:?}", report.findings),
                Err(problem) => broken!("fsck can't check the log: {problem}"),
            }
        }
        if one_in(6) {
            self.export();
        }
        if one_in(4) {
            let directory = self.data.log(&self.name);
            let copy = machine(|machine| machine.files().save(directory.path()));
            self.copies.push(copy.expect("the log is there"));
        }
        if one_in(4) {
            self.options = any_options();
        }
        self.options.witnessing = self.witnesses.as_ref().map(|witnesses| witnesses.witnessing());
    }

    /// Somebody exports the log, which may fail or crash. What the exported checkpoint covers is there all the same.
    fn export(&mut self) {
        let mut plan = Plan::default();
        if one_in(2) {
            plan.stop = Some((up_to(200), any_stop()));
        }
        if one_in(3) {
            plan.one_fault_in = Some(10 + up_to(100));
        }
        machine(|machine| machine.start(plan));
        let exported = export(&self.data, &self.name, Path::new(EXPORTED), |_| {});
        if exported.is_ok() && one_in(2) {
            machine(|machine| machine.stop(Stop::PowerLost));
        }
        self.told.count_stop();
        let excused = has_stopped() || plan.one_fault_in.is_some();
        machine(|machine| machine.start(Plan::default()));
        let mut promises = lock(&self.promises);
        match exported {
            Ok(report) if report.size.get() < promises.shown_size() => {
                broken!(
                    "readers were shown the head of size {}, and that of {} was exported",
                    promises.shown_size(),
                    report.size
                )
            }
            Ok(report) => promises.exported = promises.exported.max(report.size.get()),
            Err(ExportError::NotPublished) if promises.shown_size() == 0 => {}
            Err(_) if excused => {}
            Err(problem) => broken!("the log can't be exported: {problem}"),
        }
        drop(promises);
        self.look_at_export();
    }

    /// The head that was said to be exported is there, or a newer one, and so is all that it covers, if its entries are known yet.
    fn look_at_export(&self) {
        let mut promises = lock(&self.promises);
        let directory = Path::new(EXPORTED).join(self.name.as_str());
        let note = contents(&directory.join("checkpoint"));
        let size = note.map_or(TreeSize::ZERO, |note| promises.see_head(&note).size());
        if size.get() < promises.exported {
            broken!(
                "the head of size {} was exported, and the checkpoint that is there has the size {size}",
                promises.exported
            );
        }
        for (path, bytes) in promises.exported_files(size) {
            match contents(&directory.join(path.to_string())) {
                Some(found) if found == bytes => promises.tally.found_exported(),
                Some(_) => {
                    broken!(
                        "the exported checkpoint of size {size} covers {path}, which holds something else"
                    )
                }
                None => broken!("the exported checkpoint of size {size} covers {path}, which is not there"),
            }
        }
    }

    /// The anchors hold a head that is at least as new as what readers were shown or could take from an export, or a rollback could
    /// not be seen.
    fn look_at_anchors(&self) {
        let mut promises = lock(&self.promises);
        let beside = self.data.log(&self.name).newest_head();
        let elsewhere = PathBuf::from(format!("{ANCHOR}/{}.checkpoint", self.name));
        for path in [beside, elsewhere] {
            let anchored = contents(&path).map_or(0, |note| promises.see_anchor(&note).size().get());
            if anchored < promises.told_size() {
                broken!(
                    "readers were given the head of size {}, and {} has that of {anchored}",
                    promises.told_size(),
                    path.display()
                );
            }
            promises.tally.checked += 1;
        }
    }

    /// Opens the log and audits it. `None` if the machine stopped, or a fault kept it shut.
    fn open(&mut self, plan: Plan) -> Option<Life> {
        machine(|machine| machine.start(plan));
        let opened = Log::open(&self.data, &self.name, self.options.clone());
        let log = match opened {
            Ok(log) => log,
            Err(problem) => {
                if has_stopped() {
                    self.told.count_stop();
                } else if plan.one_fault_in.is_some() {
                    self.told.refused_opens += 1;
                    machine(Machine::end_process);
                } else {
                    broken!("the log stays shut: {problem}");
                }
                return None;
            }
        };
        machine(|machine| {
            let stop = machine.plan().stop;
            machine.set_plan(Plan {
                stop,
                one_fault_in: None,
            })
        });
        let life = Life {
            log,
            promises: self.promises.clone(),
            witnesses: self.witnesses.clone(),
            faulty: plan.one_fault_in.is_some(),
            is_stopping: AtomicBool::new(false),
        };
        life.audit();
        if has_stopped() {
            drop(life);
            self.told.count_stop();
            return None;
        }
        // Exported files are as the last crash left them, and by now all entries are known.
        self.look_at_export();
        Some(life)
    }

    /// Clients and readers use the log until they have enough of it, or it crashes.
    fn work(&self, life: &Life) {
        let mut plan = Plan::default();
        if !one_in(8) {
            plan.stop = Some((up_to(1 << (3 + up_to(9))), any_stop()));
        }
        if one_in(3) {
            plan.one_fault_in = Some(10 + up_to(200));
        }
        machine(|machine| machine.set_plan(plan));
        let faulty = life.faulty || plan.one_fault_in.is_some();
        let clients = 1 + up_to(2);
        let causes = Causes {
            faults: faulty,
            // An empty queue takes anything, and each client waits for its answer.
            full_queue: clients > 1 && clients * LARGEST_CALL > self.options.queue_events as u64,
        };
        thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| life.submit_now_and_then(causes));
            }
            scope.spawn(|| life.read_now_and_then(faulty));
            if let Some(witnesses) = &life.witnesses {
                scope.spawn(|| life.cosign_now_and_then(witnesses, faulty));
            }
            if one_in(8) {
                scope.spawn(|| {
                    for _ in 0..up_to(60) {
                        thread::yield_now();
                    }
                    life.stop();
                });
            }
        });
        if has_stopped() {
            return;
        }
        if one_in(2) {
            life.leave_alone();
        }
        if one_in(2) {
            life.stop();
        }
        if one_in(2) {
            machine(|machine| machine.stop(Stop::PowerLost));
        }
    }

    /// Somebody restores a backup of the directory, or of the database alone. The log has to stay shut if anything elsewhere
    /// remembers more: the head beside the database, the anchor, or the witnesses, of which one is there.
    fn put_back_an_old_copy(&mut self) {
        if self.copies.is_empty() {
            return;
        }
        let place = machine(|machine| machine.chance().usize(..self.copies.len()));
        let copy = &self.copies[place];
        let directory = self.data.log(&self.name);
        let beside = directory.newest_head();
        machine(|machine| machine.start(Plan::default()));
        self.look_at_anchors();
        let told = lock(&self.promises).told_size();
        let mut options = LogOptions {
            anchor: None,
            witnessing: None,
            ..self.options.clone()
        };
        let newest = machine(|machine| machine.files().save(&beside)).ok();
        machine(|machine| machine.files().restore(directory.path(), copy)).expect("it is there");
        let remembered = match (&self.witnesses, newest, up_to(2)) {
            (Some(witnesses), _, 0) => {
                let witnessing = witnesses.all_remember();
                let newest = witnesses.newest_size();
                options.witnessing = Some(witnessing);
                newest
            }
            (_, Some(newest), 1) => {
                machine(|machine| machine.files().restore(&beside, &newest)).expect("its directory is there");
                told
            }
            _ => {
                options.anchor = Some(ANCHOR.into());
                told
            }
        };
        match Log::open(&self.data, &self.name, options) {
            Ok(log) => {
                let size = log.commit_head().size.get();
                if size < remembered {
                    broken!(
                        "an old copy of {size} entries was opened, and a head of size {remembered} is remembered"
                    );
                }
            }
            Err(OpenError::RolledBack { recovered, .. }) => {
                if recovered.get() >= lock(&self.promises).largest_seen() {
                    broken!("a copy of {recovered} entries is whole, and was refused");
                }
                self.told.rollbacks += 1;
            }
            // Past what was signed, the copy may have a batch that a crash took back, and the log others in its place. The anchor
            // may have the head of these before any reader.
            Err(OpenError::Rewritten { size, .. }) if size.get() <= lock(&self.promises).largest_seen() => {
                self.told.rollbacks += 1;
            }
            Err(problem) => broken!("an old copy is refused for another reason: {problem}"),
        }
        lock(&self.promises).tally.checked += 1;
    }
}

fn is_there(path: &Path) -> bool {
    machine(|machine| machine.files().find(path).is_ok())
}

/// What a file holds, by a look that is no call.
fn contents(path: &Path) -> Option<Vec<u8>> {
    machine(|machine| {
        let inode = machine.files().find(path).ok()?;
        machine.files().bytes(inode).ok().cloned()
    })
}

fn any_options() -> LogOptions {
    LogOptions {
        memory_bytes: 16 << 20,
        queue_events: match one_in(4) {
            true => 8,
            false => 1024,
        },
        publish_interval: Duration::from_millis(1 + up_to(200)),
        resign_interval: Duration::from_millis(1 << up_to(10)),
        min_free_bytes: 0,
        anchor: Some(ANCHOR.into()),
        ..LogOptions::default()
    }
}

/// An event with a payload of its own, short, or long and repetitive. Its id decides whether it has a normal form.
fn any_event(id: String) -> Event {
    let times = match one_in(10) {
        // From some 250 on it is compressed.
        true => up_to(500),
        false => up_to(2),
    };
    let data = format!("{:016x}", up_to(u64::MAX)).repeat(usize::try_from(times).expect("it is small"));
    // Of id and payload alone: by these a log knows an event again, whatever was made of them.
    let run = data.get(..16).unwrap_or_default();
    let form = commit_of(&id).map(|commit| {
        format!(r#"{{"id":"{id}","type":"ci.run.finished","commit":"{commit}","run":{{"id":"{run}"}}}}"#)
    });
    let event = Event::try_from(EventParts {
        id,
        source: "https://ci.example/simulated".to_owned(),
        event_type: "ci.run.finished".to_owned(),
        data: data.into_bytes().into(),
        ..EventParts::default()
    })
    .expect("it is within all limits");
    match form {
        Some(form) => event
            .with_normal_form(Adapter::Event.name(), form.into_bytes())
            .expect("it is short"),
        None => event,
    }
}

/// The commit in the normal form of an event. One event in three has a form, and no two have the same commit.
fn commit_of(id: &str) -> Option<String> {
    let number: u64 = id.parse().expect("clients number their events");
    number.is_multiple_of(3).then(|| format!("{number:040x}"))
}

impl Life {
    fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.log.stop();
    }

    /// Checks every promise, on a machine that may stop but fails no call.
    fn audit(&self) {
        let head = self.log.commit_head();
        let Some(stored) = self.all_entries(&head) else {
            return;
        };
        let mut promises = lock(&self.promises);
        promises.audit(&head.note, &stored);
        match self.log.published_head() {
            Some(shown) => self.see_shown(&mut promises, &shown),
            // One that waits for cosignatures has shown nothing yet.
            None if self.witnesses.is_some() && promises.shown_size() == 0 => {}
            None => broken!("an open log shows no head"),
        }
        let events = promises.recorded_events();
        drop(promises);
        // What is on record is found again by its name, and anything else under the name is refused. Nobody else is here.
        let causes = Causes {
            faults: false,
            full_queue: false,
        };
        let first = machine(|machine| machine.chance().usize(..=events.len().saturating_sub(40)));
        let sample = &events[first..events.len().min(first + 40)];
        self.submit(sample.to_vec(), causes);
        self.prove(&head, false);
    }

    /// What readers are shown is never older than before, and where it has to be cosigned it is.
    fn see_shown(&self, promises: &mut Promises, shown: &TreeHead) {
        let head = promises.see_shown(&shown.note);
        if let Some(witnesses) = &self.witnesses
            && !witnesses.may_be_shown(&head)
        {
            broken!("the head of size {} was shown without a quorum", head.size());
        }
    }

    /// `None` if the machine stopped.
    fn all_entries(&self, head: &TreeHead) -> Option<Vec<counterfoil_log::StoredEntry>> {
        let mut stored = Vec::new();
        while (stored.len() as u64) < head.size.get() {
            let first = LeafIndex::new(stored.len() as u64).expect("it is below a size");
            match block_on(self.log.entries(first, 1000, 1 << 20, true)) {
                Ok(page) => stored.extend(page),
                Err(_) if has_stopped() => return None,
                Err(problem) => broken!("entries from {first} on can't be read: {problem}"),
            }
        }
        stored.truncate(usize::try_from(head.size.get()).expect("logs here are small"));
        Some(stored)
    }

    /// That the newest head is of a tree that any head seen before has grown into.
    fn prove(&self, head: &TreeHead, faulty: bool) {
        let Some((size, root)) = lock(&self.promises).any_head() else {
            return;
        };
        let first = TreeSize::new(size).expect("it was a size");
        match block_on(self.log.consistency_proof(first, head.size)) {
            Ok(proof) => {
                let suite = self.log.suite();
                if let Err(problem) = verify_consistency(suite, first, root, head.size, head.root, &proof) {
                    broken!(
                        "the head of size {} does not follow from that of size {size}: {problem}",
                        head.size
                    );
                }
                lock(&self.promises).tally.checked += 1;
            }
            Err(_) if has_stopped() || faulty => {}
            Err(problem) => broken!("no proof from size {size} to {}: {problem}", head.size),
        }
    }

    /// One call, of which the answer has to be right. Refusals need a cause.
    fn submit(&self, events: Vec<Event>, causes: Causes) {
        let call = lock(&self.promises).submitted(events);
        let prepared = call
            .events
            .iter()
            .map(|event| self.log.prepare(event.clone(), &Submitter::anonymous()))
            .collect();
        let answer = block_on(self.log.submit(prepared));
        if has_stopped() {
            return;
        }
        let problem = match answer {
            Ok(answer) => return lock(&self.promises).answered(&call, &answer),
            Err(problem) => problem,
        };
        let has_cause = match problem {
            SubmitError::QueueFull => causes.full_queue,
            SubmitError::Stopping => self.is_stopping.load(Ordering::Relaxed),
            _ => causes.faults,
        };
        if !has_cause {
            broken!("a call is refused without cause: {problem}");
        }
    }

    /// A client: calls of new events, of some that were submitted before, and of others under their names.
    fn submit_now_and_then(&self, causes: Causes) {
        for _ in 0..=up_to(20) {
            if has_stopped() {
                return;
            }
            let count = match one_in(40) {
                true => LARGEST_CALL,
                false => 1 + up_to(4),
            };
            let events: Vec<_> = (0..count).map(|_| self.next_event()).collect();
            self.submit(events, causes);
        }
    }

    fn next_event(&self) -> Event {
        let mut promises = lock(&self.promises);
        if one_in(4)
            && let Some(event) = promises.any_event()
        {
            return match one_in(3) {
                true => any_event(event.id().to_owned()),
                false => event,
            };
        }
        any_event(promises.new_number().to_string())
    }

    /// A reader: looks at heads, and has them and what they cover proved.
    fn read_now_and_then(&self, faulty: bool) {
        for _ in 0..up_to(60) {
            thread::yield_now();
            if has_stopped() {
                return;
            }
            let head = self.log.commit_head();
            lock(&self.promises).see_head(&head.note);
            if let Some(shown) = self.log.published_head() {
                self.see_shown(&mut lock(&self.promises), &shown);
            }
            match up_to(4) {
                0 => self.prove(&head, faulty),
                1 => self.look_up(faulty),
                _ => {}
            }
        }
    }

    /// Somebody has the witnesses cosign what the log offers, and publishes it with their lines, late now and then.
    fn cosign_now_and_then(&self, witnesses: &Witnesses, faulty: bool) {
        let offered = self.log.candidates();
        let mut late = None;
        for _ in 0..up_to(80) {
            thread::yield_now();
            let candidate = offered.borrow().clone();
            if has_stopped() {
                return;
            }
            let Some(candidate) = candidate else { continue };
            let candidate = match &late {
                None if one_in(4) => {
                    late = Some(candidate);
                    continue;
                }
                Some(_) if one_in(2) => late.take().unwrap_or(candidate),
                _ => candidate,
            };
            let head = lock(&self.promises).see_head(&candidate.head().note);
            let lines = witnesses.cosign(&candidate, &head);
            let published = block_on(self.log.publish(candidate, lines));
            if has_stopped() {
                return;
            }
            match published {
                Ok(()) => {
                    let Some(shown) = self.log.published_head() else {
                        broken!("the head of size {} was said to be published", head.size());
                    };
                    let mut promises = lock(&self.promises);
                    self.see_shown(&mut promises, &shown);
                    promises.tally.cosigned += 1;
                    if shown.size < head.size() {
                        broken!("the head of size {} was said to be published", head.size());
                    }
                }
                Err(PublishError::NoQuorum(_) | PublishError::Stopping) => {}
                Err(_) if faulty => {}
                Err(problem) => broken!("a cosigned head is refused: {problem}"),
            }
        }
    }

    /// Nothing fails any more, and nobody submits. Whatever failed before, the log either sees to it, takes events and signs its
    /// head anew, or says that it takes none any more.
    fn leave_alone(&self) {
        machine(|machine| machine.set_plan(Plan::default()));
        let offered = self.log.candidates();
        let (shown, candidate) = (self.log.published_head(), offered.borrow().clone());
        let is_signed_anew = || match &self.witnesses {
            None => match (&shown, self.log.published_head()) {
                (Some(before), Some(now)) => !Arc::ptr_eq(before, &now),
                _ => broken!("an open log shows no head"),
            },
            // Who answers is the witnesses' business.
            Some(_) => match (&candidate, &*offered.borrow()) {
                (Some(before), Some(now)) => !ptr::eq(before.head(), now.head()),
                _ => broken!("an open log offers its witnesses no head"),
            },
        };
        for _ in 0..MOST_LOOKS {
            machine(|machine| machine.pass_time(Duration::from_millis(100)));
            thread::yield_now();
            if self.log.intake() == Intake::Closed || is_signed_anew() && self.log.takes_events() {
                lock(&self.promises).tally.checked += 1;
                return self.take_at_its_word();
            }
        }
        broken!(
            "the log is not closed, and takes no events or signs nothing anew: {:?}, the tree is of size {}",
            self.log.intake(),
            self.log.commit_head().size
        )
    }

    /// A log that says that it takes events does, once its threads had time to see to all that failed.
    fn take_at_its_word(&self) {
        for _ in 0..TURNS {
            thread::yield_now();
        }
        if self.log.takes_events() {
            let event = any_event(lock(&self.promises).new_number().to_string());
            let causes = Causes {
                faults: false,
                full_queue: false,
            };
            self.submit(vec![event], causes);
        }
    }

    /// An event that was answered is found where it was said to be, with proof, by each of its names and by its commit.
    fn look_up(&self, faulty: bool) {
        let promises = lock(&self.promises);
        let Some(event) = promises.any_event() else { return };
        let Some(place) = promises.place_of(&event) else {
            return;
        };
        drop(promises);
        self.find(LeafName::Event(event.key()), place, faulty);
        match block_on(self.log.proven_leaf(place)) {
            Ok((head, leaf)) => {
                lock(&self.promises).proved(&head, &leaf);
                if one_in(2) {
                    let hash = self.log.suite().leaf_hash(&leaf.entry);
                    self.find(LeafName::Hash(hash), place, faulty);
                }
            }
            Err(_) if faulty || has_stopped() => {}
            Err(problem) => broken!("entry {place} is not proved: {problem}"),
        }
        if one_in(2)
            && let Some(commit) = commit_of(event.id())
        {
            self.search(&commit, place, faulty);
        }
    }

    fn find(&self, name: LeafName, place: LeafIndex, faulty: bool) {
        match block_on(self.log.find(name.clone())) {
            Ok(found) if found == place => lock(&self.promises).tally.found_event(),
            Ok(found) => broken!("{name:?} of entry {place} is found at {found}"),
            Err(_) if faulty || has_stopped() => {}
            Err(problem) => broken!("{name:?} of entry {place} is not found: {problem}"),
        }
    }

    /// No other event has the commit.
    fn search(&self, commit: &str, place: LeafIndex, faulty: bool) {
        let key = IndexKey::new(IndexAttribute::Commit, commit);
        match block_on(self.log.find_entries(key, LeafIndex::ZERO, 2)) {
            Ok(found) if found.indices == [place] => lock(&self.promises).tally.checked += 1,
            Ok(found) => broken!("the commit of entry {place} is found at {:?}", found.indices),
            Err(_) if faulty || has_stopped() => {}
            Err(problem) => broken!("the commit of entry {place} is not found: {problem}"),
        }
    }
}
