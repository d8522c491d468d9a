//! The thread that reads rule sets: which, when, and how often.
//!
//! It waits for questions, for the kernel's word of changes, and for readings
//! that have ended. A reading is done on a thread of its own, one at a time, so
//! that neither this one nor the tracer's waits for `nft`.

use std::{
    collections::{HashMap, HashSet},
    io::{self, Read as _, Write as _},
    mem::{Discriminant, discriminant},
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    history::{History, Kept},
    reading::{self, ReadError, Told, now_ns},
    watch::{Change, Watch},
};
use crate::owner::netns;

/// Namespaces whose rule sets are remembered, and how much memory they may take.
const MAX_REMEMBERED: usize = 64;
const MAX_BYTES: usize = 128 << 20;
/// Reading what has changed, searching for namespaces, and hearing of changes may
/// each take one part in so many of the time.
const SHARE: u32 = 10;
/// Reading what has changed may be ahead of its share by so much, so that what
/// changes seldom is read at once.
const AHEAD: Duration = Duration::from_secs(3);
/// So may searching, so that the namespaces of a first burst of drops are all found.
const SEARCH_AHEAD: Duration = Duration::from_secs(1);
/// A reading that begins within this time is worth waiting for.
const SOON: Duration = Duration::from_secs(1);
/// Readings at a time: a large rule set does not hold up the others.
const MAX_AT_WORK: usize = 2;
/// Messages that wait at a time.
const MAX_MESSAGES: usize = 256;
/// A namespace that is gone is let go after this time.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// What cannot be read is tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// What is known of the rule sets, by the number of the namespace.
pub type Histories = HashMap<u32, History>;

/// The tracer's end of the thread, which ends with it.
#[derive(Debug)]
pub struct Reader {
    histories: Arc<Mutex<Histories>>,
    mail: Mail,
}

/// A way to the thread.
#[derive(Clone, Debug)]
struct Mail {
    sender: SyncSender<Message>,
    bell: Arc<UnixStream>,
}

#[derive(Debug)]
enum Message {
    /// A rule of this namespace was asked for.
    Asked(u32),
    /// These namespaces are likely to be asked for.
    Likely(Vec<(u32, PathBuf)>),
    /// A reading has ended.
    Told(Box<Told>),
}

impl Reader {
    /// Starts to read the rule sets of the namespaces that are likely to matter.
    /// Each is kept for `keep` after it has changed.
    ///
    /// # Errors
    ///
    /// If there can be no thread.
    pub fn start(keep: Duration) -> io::Result<Self> {
        let (bell, ring) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ring.set_nonblocking(true)?;
        let (sender, inbox) = sync_channel(MAX_MESSAGES);
        let ring = Arc::new(ring);
        let now = Instant::now();
        let thread = Thread {
            histories: Arc::default(),
            inbox,
            bell,
            sender: sender.clone(),
            ring: Arc::downgrade(&ring),
            spaces: HashMap::new(),
            keep_ns: u64::try_from(keep.as_nanos()).unwrap_or(u64::MAX),
            at_work: HashSet::new(),
            questions: 0,
            share_used_until: now,
            search_used_until: now,
            next_look: now,
            complained: HashSet::new(),
        };
        let reader = Self {
            histories: Arc::clone(&thread.histories),
            mail: Mail { sender, bell: ring },
        };
        let mail = reader.mail.clone();
        thread::Builder::new().spawn(move || {
            let likely = netns::likely(MAX_REMEMBERED / 2);
            mail.send(Message::Likely(likely));
        })?;
        thread::Builder::new().spawn(move || thread.run())?;
        Ok(reader)
    }

    /// What is known so far.
    pub fn histories(&self) -> MutexGuard<'_, Histories> {
        lock(&self.histories)
    }

    /// Has the rule set of a namespace made sure of; false if too much is asked
    /// at the moment.
    pub fn ask(&self, netns: u32) -> bool {
        let asked = self.mail.sender.try_send(Message::Asked(netns)).is_ok();
        self.mail.ring();
        asked
    }
}

impl Mail {
    fn send(&self, message: Message) {
        // If the thread has ended, nobody wants to know.
        let _ = self.sender.send(message);
        self.ring();
    }

    fn ring(&self) {
        // If it is full, the bell is rung.
        let _ = (&*self.bell).write(&[0]);
    }
}

/// What the thread knows.
struct Thread {
    histories: Arc<Mutex<Histories>>,
    inbox: Receiver<Message>,
    bell: UnixStream,
    sender: SyncSender<Message>,
    ring: Weak<UnixStream>,
    spaces: HashMap<u32, Space>,
    keep_ns: u64,
    /// The namespaces that are being read.
    at_work: HashSet<u32>,
    /// Grows with every question.
    questions: u64,
    /// Until then the share of the time for reading what has changed is used up.
    share_used_until: Instant,
    /// The same for searching for namespaces.
    search_used_until: Instant,
    next_look: Instant,
    /// What was complained about.
    complained: HashSet<Discriminant<ReadError>>,
}

/// A namespace.
#[derive(Default)]
struct Space {
    path: Option<PathBuf>,
    watch: Option<Watch>,
    /// Its rule set is to be read, from when on.
    due: Option<Instant>,
    /// Changes are not listened for before then.
    deaf_until: Option<Instant>,
    /// When it was last asked for.
    question: u64,
    /// That it was read, or tried to be.
    was_tried: bool,
    /// Why its rule set could not be read.
    failure: Option<ReadError>,
}

impl Thread {
    fn run(mut self) {
        while self.wait() {
            while let Ok(message) = self.inbox.try_recv() {
                self.take(message);
            }
            if self.next_look <= Instant::now() {
                self.look_after();
                self.next_look = Instant::now() + LOOK_AFTER;
            }
            self.start_reading();
        }
    }

    /// Waits until there is something to do, and hears of changes; false when
    /// the tracer has ended.
    fn wait(&mut self) -> bool {
        let now = Instant::now();
        let mut wake = self.next_look;
        let mut listened = Vec::new();
        for (netns, space) in &self.spaces {
            let due = space.due.filter(|_| self.at_work.len() < MAX_AT_WORK);
            let due = due.map(|due| self.earliest(*netns, due));
            wake = wake.min(due.unwrap_or(wake));
            match (&space.watch, space.deaf_until) {
                (Some(_), Some(until)) if until > now => wake = wake.min(until),
                (Some(watch), _) => listened.push((*netns, watch.fd())),
                (None, _) => {}
            }
        }
        let fds = [self.bell.as_raw_fd()].into_iter();
        let mut polled: Vec<libc::pollfd> = fds
            .chain(listened.iter().map(|(_, fd)| *fd))
            .map(|fd| libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        let wait = wake.saturating_duration_since(now).as_millis() + 1;
        let count = libc::nfds_t::try_from(polled.len()).unwrap_or_default();
        let wait = libc::c_int::try_from(wait).unwrap_or(libc::c_int::MAX);
        // SAFETY: valid for this number of elements.
        unsafe { libc::poll(polled.as_mut_ptr(), count, wait) };
        let noticed_ns = now_ns();
        for ((netns, _), polled) in listened.iter().zip(&polled[1..]) {
            if polled.revents != 0 {
                self.hear(*netns, noticed_ns);
            }
        }
        let mut rung = [0; 64];
        loop {
            match self.bell.read(&mut rung) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Likely(likely) => {
                for (netns, path) in likely {
                    self.space(netns).path = Some(path);
                }
            }
            Message::Asked(netns) => self.answer(netns),
            Message::Told(told) => {
                self.at_work.remove(&told.netns);
                self.keep(*told);
            }
        }
    }

    /// What is known of a namespace; one that is new is to be read.
    fn space(&mut self, netns: u32) -> &mut Space {
        if !self.spaces.contains_key(&netns) {
            self.make_room(MAX_REMEMBERED - 1);
            let mut history = History::default();
            history.is_read = true;
            lock(&self.histories).insert(netns, history);
        }
        self.spaces.entry(netns).or_insert_with(|| Space {
            due: Some(Instant::now()),
            ..Space::default()
        })
    }

    /// Makes sure of a rule set.
    fn answer(&mut self, netns: u32) {
        let asked_ns = now_ns();
        self.questions += 1;
        let question = self.questions;
        let space = self.space(netns);
        space.question = question;
        if space.watch.is_some() {
            self.confirm(netns, Change::None);
        } else if space.due.is_none() {
            space.due = Some(Instant::now() + AGAIN);
        }
        if let Some(history) = lock(&self.histories).get_mut(&netns) {
            history.sure_ns = asked_ns;
        }
        self.complain(netns);
        self.say_what_is_read();
    }

    /// Takes note of a change.
    fn hear(&mut self, netns: u32, noticed_ns: u64) {
        let start = Instant::now();
        let watch = self
            .spaces
            .get(&netns)
            .and_then(|space| space.watch.as_ref());
        let Some(change) = watch.map(Watch::change) else {
            return;
        };
        if change != Change::None && !self.confirm(netns, change) {
            let mut histories = lock(&self.histories);
            if let Some(history) = histories.get_mut(&netns) {
                history.changed(noticed_ns);
            }
        }
        if let Some(space) = self.spaces.get_mut(&netns) {
            space.deaf_until = Some(start + start.elapsed() * SHARE);
        }
    }

    /// Asks the kernel whether a rule set is still what was read, after a change
    /// of elements perhaps; if not, it is to be read again.
    fn confirm(&mut self, netns: u32, change: Change) -> bool {
        let Some(space) = self.spaces.get_mut(&netns) else {
            return false;
        };
        let Some(watch) = &space.watch else {
            return false;
        };
        let asked_ns = now_ns();
        let now = match watch.generation() {
            Ok(now) => now.id,
            Err(error) => {
                space.failure = Some(ReadError::Generation(error));
                space.watch = None;
                return false;
            }
        };
        let mut histories = lock(&self.histories);
        let Some(history) = histories.get_mut(&netns) else {
            return false;
        };
        let elements = match change {
            Change::Elements(changes) => changes,
            Change::None | Change::Any => 0,
        };
        let is_same = history.is_still(now, elements);
        if is_same {
            history.confirm(now, asked_ns);
        } else {
            space.due.get_or_insert_with(Instant::now);
        }
        is_same
    }

    /// Keeps what was read.
    fn keep(&mut self, told: Told) {
        let Some(space) = self.spaces.get_mut(&told.netns) else {
            return;
        };
        let now = Instant::now();
        if !told.searched.is_zero() {
            self.search_used_until = self.search_used_until.max(now) + told.searched * SHARE;
        }
        let took = told.took.max(Duration::from_millis(1));
        self.share_used_until = self.share_used_until.max(now) + took * SHARE;
        let mut histories = lock(&self.histories);
        let history = histories.entry(told.netns).or_default();
        history.sure_ns = now_ns();
        match told.reading {
            Ok(reading) => {
                let namespace = told
                    .path
                    .clone()
                    .filter(|path| path != Path::new(netns::OWN));
                let cookie = reading.generation.cookie;
                if cookie != history.cookie || (cookie == 0 && namespace != history.namespace) {
                    history.begin(cookie, namespace);
                } else {
                    history.namespace = namespace;
                }
                history.add(Kept {
                    generations: (reading.generation.id, reading.generation.id),
                    is_certain: reading.is_certain,
                    from_ns: reading.from_ns,
                    until_ns: reading.until_ns,
                    ended_ns: None,
                    listing: Arc::new(reading.listing),
                });
                space.path = told.path;
                space.watch = Some(reading.watch);
                space.failure = None;
                space.due = (!reading.is_certain).then_some(now);
            }
            Err(error) => {
                space.watch = None;
                space.failure = Some(error);
            }
        }
        drop(histories);
        self.complain(told.netns);
        self.make_room(MAX_REMEMBERED);
        self.say_what_is_read();
    }

    /// Begins the reading that is due the longest, of those that were asked for if
    /// there are such.
    fn start_reading(&mut self) {
        let now = Instant::now();
        let due = self.spaces.iter().filter_map(|(netns, space)| {
            let due = space.due.filter(|_| !self.at_work.contains(netns))?;
            let is_next = self.earliest(*netns, due) <= now;
            is_next.then_some((space.question == 0, due, *netns))
        });
        let next = due.min().filter(|_| self.at_work.len() < MAX_AT_WORK);
        let (Some((_, _, netns)), Some(bell)) = (next, self.ring.upgrade()) else {
            return;
        };
        let Some(space) = self.spaces.get_mut(&netns) else {
            return;
        };
        space.due = None;
        space.was_tried = true;
        let path = space.path.clone();
        let may_search = self.search_used_until <= now + SEARCH_AHEAD * SHARE;
        let sender = self.sender.clone();
        let mail = Mail { sender, bell };
        let read = move || {
            let told = reading::read(netns, path, may_search);
            mail.send(Message::Told(Box::new(told)));
        };
        let worker = thread::Builder::new().spawn(read);
        if worker.is_ok() {
            self.at_work.insert(netns);
        }
        self.say_what_is_read();
    }

    /// When what is due may be read: what was never tried, at once.
    fn earliest(&self, netns: u32, due: Instant) -> Instant {
        let is_known = self
            .spaces
            .get(&netns)
            .is_some_and(|space| space.watch.is_some());
        let earliest = self.share_used_until.checked_sub(AHEAD * SHARE);
        earliest
            .filter(|_| is_known)
            .map_or(due, |earliest| due.max(earliest))
    }
}

impl Thread {
    /// Tells the tracer for which rule sets it is worth to wait.
    fn say_what_is_read(&self) {
        let soon = Instant::now() + SOON;
        for (netns, history) in lock(&self.histories).iter_mut() {
            let due = self.spaces.get(netns).and_then(|space| space.due);
            let is_next = due.is_some_and(|due| self.earliest(*netns, due) <= soon);
            history.is_read = is_next || self.at_work.contains(netns);
        }
    }

    /// Lets go of namespaces that nothing else holds, and of rule sets that were
    /// replaced long ago.
    fn look_after(&mut self) {
        for (netns, space) in &mut self.spaces {
            let path = space.path.as_deref();
            let is_there = path.is_some_and(|path| netns::open_at(path, *netns).is_some());
            if space.watch.is_some() && !is_there {
                space.watch = None;
                // Another process may be in it.
                space.due = Some(Instant::now());
            }
        }
        let keep_from = now_ns().saturating_sub(self.keep_ns);
        for history in lock(&self.histories).values_mut() {
            history.forget(keep_from);
        }
    }

    /// Forgets old rule sets where they take too much memory, then namespaces
    /// until there are at most so many; first those without a rule set, and those
    /// that were not asked for the longest.
    fn make_room(&mut self, most: usize) {
        let mut histories = lock(&self.histories);
        let is_too_much = |histories: &Histories| {
            let bytes: usize = histories.values().map(History::size).sum();
            bytes > MAX_BYTES
        };
        while is_too_much(&histories) && histories.values_mut().any(History::forget_oldest) {}
        while histories.len() > most || (histories.len() > 1 && is_too_much(&histories)) {
            let spaces = self.spaces.iter();
            let least = spaces.min_by_key(|(netns, space)| {
                let history = histories.get(netns);
                let has_rules = history.is_some_and(|history| history.newest().is_some());
                (has_rules, space.question)
            });
            let Some(netns) = least.map(|(netns, _)| *netns) else {
                return;
            };
            self.spaces.remove(&netns);
            histories.remove(&netns);
        }
    }

    /// Says once what is wrong, if it matters.
    fn complain(&mut self, netns: u32) {
        let space = self.spaces.get(&netns).filter(|space| space.question > 0);
        let Some(failure) = space.and_then(|space| space.failure.as_ref()) else {
            return;
        };
        if !matches!(failure, ReadError::Missing) && self.complained.insert(discriminant(failure)) {
            log::warn!(
                "network namespace {netns}: {failure}; netfilter rules are told by handle only"
            );
        }
    }
}

/// Nothing is left half done where a thread might end.
fn lock(histories: &Mutex<Histories>) -> MutexGuard<'_, Histories> {
    histories.lock().unwrap_or_else(PoisonError::into_inner)
}
