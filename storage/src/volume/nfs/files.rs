//! A server's files by the numbers that the kernel knows them by, and what of them is under way.
//!
//! Written bytes are kept until the server has them on disk (RFC 1813, 4.8): a server that restarts in between gets
//! them again. A file that is removed while it is open keeps another name until it is closed.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::answers::{Attributes, Entry, Handle, Kind, Limits, Space, Stable, Verifier};
use super::options::Options;
use super::procedures::{self as nfs, Changes, Error, MAY_READ, MAY_WRITE};
use super::rpc::Client;

/// The number of a volume's root.
pub const ROOT: u64 = 1;
/// Most written bytes of a volume that are kept for a server that may forget them; beyond it writes wait for its disk.
const MAX_KEPT_BYTES: usize = 16 << 20;

/// Most entries of a directory: who lists one keeps them all in memory.
const MAX_LISTED: usize = 1 << 20;

/// What servers say of a file that is not there, of one that may not be opened, of what is no
/// directory, of a place that makes no sense, of too much, and of a handle that they do not know (any more).
const NOT_FOUND: u32 = 2;
const ACCESS: u32 = 13;
const NOT_A_DIRECTORY: u32 = 20;
const INVALID: u32 = 22;
const TOO_LARGE: u32 = 27;
const STALE: u32 = 70;

/// A file that is being closed.
#[must_use]
pub struct Closing {
    number: u64,
    file: Option<(Handle, Unstable)>,
    hidden: Option<Hidden>,
}

/// Where a removed file lies until it is closed.
type Hidden = (Handle, Vec<u8>);

/// A file as the kernel is told of it.
pub type Found = (u64, Attributes);

pub struct Files {
    client: Client,
    limits: Limits,
    sync: bool,
    state: Mutex<State>,
    room: Arc<Semaphore>,
    next_listing: AtomicU64,
    /// Hidden files that are being removed.
    going: watch::Sender<usize>,
}

struct State {
    /// All that the kernel knows: as many as it has room for.
    nodes: HashMap<u64, Node>,
    open: HashMap<u64, Open>,
    /// As many as guests have directories open.
    listings: HashMap<u64, Arc<tokio::sync::Mutex<Listing>>>,
}

struct Node {
    handle: Handle,
    lookups: u64,
}

#[derive(Default)]
struct Open {
    times: u64,
    written: Unstable,
    hidden: Option<Hidden>,
}

/// What was written to one file, in order; who writes or commits does it alone.
type Unstable = Arc<tokio::sync::Mutex<Vec<Written>>>;

/// Bytes that a server may not have on disk yet.
struct Written {
    offset: u64,
    data: Bytes,
    verifier: Verifier,
    _room: OwnedSemaphorePermit,
}

/// How far a directory was read.
#[derive(Default)]
struct Listing {
    verifier: Verifier,
    /// The place before `ahead`.
    at: u64,
    ahead: VecDeque<Entry>,
    /// Entries since its beginning.
    listed: usize,
    is_last: bool,
}

impl Files {
    /// The files beneath `root`.
    ///
    /// # Errors
    /// When the server does not say what it can do, or the root is no directory.
    pub async fn open(client: Client, root: Handle, options: &Options) -> Result<Files, Error> {
        let limits = nfs::limits(&client, &root).await?;
        if nfs::get_attributes(&client, &root).await?.kind != Kind::Directory {
            return Err(Error::Status(NOT_A_DIRECTORY));
        }
        let limits = Limits {
            read_bytes: limits.read_bytes.min(options.read_bytes),
            write_bytes: limits.write_bytes.min(options.write_bytes),
            ..limits
        };
        let nodes = HashMap::from([(ROOT, Node { handle: root, lookups: 1 })]);
        Ok(Files {
            client,
            limits,
            sync: options.sync,
            state: Mutex::new(State { nodes, open: HashMap::new(), listings: HashMap::new() }),
            room: Arc::new(Semaphore::new(MAX_KEPT_BYTES)),
            next_listing: AtomicU64::new(1),
            going: watch::Sender::new(0),
        })
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    pub async fn lookup(&self, parent: u64, name: &[u8]) -> Result<Found, Error> {
        let (handle, attributes) = nfs::lookup(&self.client, &self.handle(parent)?, name).await?;
        self.found(handle, attributes).await
    }

    /// The kernel has forgotten a number as often as it was told.
    pub fn forget(&self, number: u64, times: u64) {
        let mut state = self.state();
        let Some(node) = state.nodes.get_mut(&number).filter(|_| number != ROOT) else { return };
        node.lookups = node.lookups.saturating_sub(times);
        if node.lookups == 0 {
            state.nodes.remove(&number);
        }
    }

    pub async fn attributes(&self, number: u64) -> Result<Found, Error> {
        Ok((number, nfs::get_attributes(&self.client, &self.handle(number)?).await?))
    }

    pub async fn set_attributes(&self, number: u64, to: Changes) -> Result<Found, Error> {
        let handle = self.handle(number)?;
        let written = self.written(number);
        let mut written = written.lock().await;
        if to.size.is_some() {
            // What was cut off must not come back.
            self.put_on_disk(&handle, &mut written).await?;
        }
        match nfs::set_attributes(&self.client, &handle, to).await? {
            Some(attributes) => Ok((number, attributes)),
            None => self.attributes(number).await,
        }
    }

    pub async fn read_link(&self, number: u64) -> Result<Bytes, Error> {
        nfs::read_link(&self.client, &self.handle(number)?).await
    }

    /// Makes a file, or finds it unless it has to be new (`is_exclusive`), and opens it.
    pub async fn create(&self, parent: u64, name: &[u8], to: Changes, is_exclusive: bool) -> Result<Found, Error> {
        let dir = self.handle(parent)?;
        let (handle, attributes) = nfs::create(&self.client, &dir, name, to, is_exclusive).await?;
        let found = self.made(&dir, name, handle, attributes).await?;
        self.state().open.entry(found.0).or_default().times += 1;
        Ok(found)
    }

    pub async fn make_dir(&self, parent: u64, name: &[u8], mode: u32) -> Result<Found, Error> {
        let dir = self.handle(parent)?;
        let to = Changes { mode: Some(mode), ..Changes::default() };
        let (handle, attributes) = nfs::make_dir(&self.client, &dir, name, to).await?;
        self.made(&dir, name, handle, attributes).await
    }

    pub async fn make_link(&self, parent: u64, name: &[u8], target: &[u8]) -> Result<Found, Error> {
        let dir = self.handle(parent)?;
        let (handle, attributes) = nfs::make_link(&self.client, &dir, name, target).await?;
        self.made(&dir, name, handle, attributes).await
    }

    pub async fn hard_link(&self, number: u64, parent: u64, name: &[u8]) -> Result<Found, Error> {
        let (handle, dir) = (self.handle(number)?, self.handle(parent)?);
        nfs::hard_link(&self.client, &handle, &dir, name).await?;
        self.found(handle, None).await
    }

    pub async fn remove(&self, parent: u64, name: &[u8]) -> Result<(), Error> {
        let dir = self.handle(parent)?;
        if self.hide_if_open(&dir, name).await? {
            return Ok(());
        }
        nfs::remove(&self.client, &dir, name).await
    }

    pub async fn remove_dir(&self, parent: u64, name: &[u8]) -> Result<(), Error> {
        let dir = self.handle(parent)?;
        // What was hidden in it and is closed is gone in a moment.
        let _ = self.going.subscribe().wait_for(|going| *going == 0).await;
        nfs::remove_dir(&self.client, &dir, name).await
    }

    pub async fn rename(&self, from: (u64, &[u8]), to: (u64, &[u8])) -> Result<(), Error> {
        let (source, target) = (self.handle(from.0)?, self.handle(to.0)?);
        if (&source, from.1) != (&target, to.1) {
            self.hide_if_open(&target, to.1).await?;
        }
        nfs::rename(&self.client, (&source, from.1), (&target, to.1)).await
    }

    /// Opens a file for what is wanted of it, if the server allows that.
    pub async fn open_file(&self, number: u64, reads: bool, writes: bool) -> Result<(), Error> {
        let wanted = if reads { MAY_READ } else { 0 } | if writes { MAY_WRITE } else { 0 };
        let allowed = nfs::access(&self.client, &self.handle(number)?, wanted).await?;
        // Servers tell of what one may append and change apart; either is enough to write.
        if (reads && allowed & MAY_READ == 0) || (writes && allowed & MAY_WRITE == 0) {
            return Err(Error::Status(ACCESS));
        }
        self.state().open.entry(number).or_default().times += 1;
        Ok(())
    }

    pub async fn read(&self, number: u64, offset: u64, count: u32) -> Result<Bytes, Error> {
        let handle = self.handle(number)?;
        let mut all = BytesMut::new();
        loop {
            let missing = count - u32::try_from(all.len()).unwrap_or(count);
            let piece = missing.min(self.limits.read_bytes);
            let (data, is_end) = nfs::read(&self.client, &handle, offset + all.len() as u64, piece).await?;
            if all.is_empty() && (is_end || data.len() >= count as usize) {
                return Ok(data);
            }
            all.extend_from_slice(&data);
            if is_end || data.is_empty() || all.len() >= count as usize {
                return Ok(all.freeze());
            }
        }
    }

    pub async fn write(&self, number: u64, offset: u64, mut data: Bytes) -> Result<(), Error> {
        let handle = self.handle(number)?;
        let written = self.written(number);
        let mut written = written.lock().await;
        let mut offset = offset;
        while !data.is_empty() {
            let piece = data.slice(..data.len().min(self.limits.write_bytes as usize));
            let mut room = self.room(piece.len());
            if room.is_none() && !self.sync {
                self.put_on_disk(&handle, &mut written).await?;
                room = self.room(piece.len());
            }
            let stable = if room.is_some() { Stable::No } else { Stable::Yes };
            let done = nfs::write(&self.client, &handle, offset, &piece, stable).await?;
            if let (Stable::No, Some(room)) = (done.stable, room) {
                let data = piece.slice(..done.bytes);
                written.push(Written { offset, data, verifier: done.verifier, _room: room });
            }
            offset += done.bytes as u64;
            data = data.slice(done.bytes..);
        }
        Ok(())
    }

    /// Returns once all that was written to a file is on the server's disk.
    pub async fn sync(&self, number: u64) -> Result<(), Error> {
        let written = self.written(number);
        let mut written = written.lock().await;
        self.put_on_disk(&self.handle(number)?, &mut written).await
    }

    /// A file that was opened or made is open once less: at once for who removes it next, which is why nothing is waited for.
    pub fn close(&self, number: u64) -> Closing {
        let mut state = self.state();
        let State { nodes, open, .. } = &mut *state;
        let (Some(node), Some(open)) = (nodes.get(&number), open.get_mut(&number)) else {
            return Closing { number, file: None, hidden: None };
        };
        open.times -= 1;
        let hidden = if open.times == 0 { open.hidden.take() } else { None };
        if hidden.is_some() {
            self.going.send_modify(|going| *going += 1);
        }
        Closing { number, file: Some((node.handle.clone(), open.written.clone())), hidden }
    }

    /// Does for the server what a close means: all is on its disk, and what had been removed is.
    pub async fn finish(&self, Closing { number, file, hidden }: Closing) -> Result<(), Error> {
        let synced = match file {
            Some((handle, written)) => match self.put_on_disk(&handle, &mut *written.lock().await).await {
                // It has been removed, and nobody misses it.
                Err(Error::Status(STALE)) => Ok(()),
                synced => synced,
            },
            None => Ok(()),
        };
        {
            let mut state = self.state();
            if state.open.get(&number).is_some_and(|open| open.times == 0) {
                state.open.remove(&number);
            }
        }
        if let Some((dir, name)) = hidden {
            let removed = nfs::remove(&self.client, &dir, &name).await;
            self.going.send_modify(|going| *going -= 1);
            removed?;
        }
        synced
    }

    /// Does what a close means for all that is open still: nobody will close it.
    ///
    /// # Errors
    /// Those of the server, after all else was done.
    pub async fn finish_all(&self) -> Result<(), Error> {
        let open: Vec<(u64, u64)> = self.state().open.iter().map(|(number, open)| (*number, open.times)).collect();
        let mut finished = Ok(());
        for (number, times) in open {
            for _ in 0..times {
                finished = finished.and(self.finish(self.close(number)).await);
            }
        }
        finished
    }

    /// Opens a directory for reading, by a number of its own.
    pub fn open_dir(&self) -> u64 {
        let id = self.next_listing.fetch_add(1, Ordering::Relaxed);
        self.state().listings.insert(id, Arc::default());
        id
    }

    pub fn close_dir(&self, id: u64) {
        self.state().listings.remove(&id);
    }

    /// Tells of the entries behind a place, in order, until `take` has enough: number, place behind it, kind and name.
    pub async fn read_dir(
        &self,
        number: u64,
        id: u64,
        from: u64,
        mut take: impl FnMut(u64, u64, Kind, &[u8]) -> bool,
    ) -> Result<(), Error> {
        let dir = self.handle(number)?;
        let listing = self.state().listings.get(&id).cloned().ok_or(Error::Status(INVALID))?;
        let mut listing = listing.lock().await;
        if from == 0 || from != listing.at {
            let verifier = if from == 0 { Verifier::default() } else { listing.verifier };
            let listed = if from == 0 { 0 } else { listing.listed };
            *listing = Listing { verifier, at: from, listed, ..Listing::default() };
        }
        loop {
            while let Some(entry) = listing.ahead.front() {
                let (number, kind) = self.told(&dir, entry).await?;
                if take(number, entry.cookie, kind, &entry.name) {
                    return Ok(());
                }
                listing.at = entry.cookie;
                listing.ahead.pop_front();
            }
            if listing.is_last {
                return Ok(());
            }
            let bytes = self.limits.directory_bytes;
            let more = nfs::read_dir(&self.client, &dir, listing.at, &listing.verifier, bytes).await?;
            listing.listed += more.entries.len();
            if listing.listed > MAX_LISTED {
                return Err(Error::Status(TOO_LARGE));
            }
            (listing.verifier, listing.ahead, listing.is_last) = (more.verifier, more.entries.into(), more.is_last);
        }
    }

    pub async fn space(&self) -> Result<Space, Error> {
        nfs::space(&self.client, &self.handle(ROOT)?).await
    }

    /// What a directory says of an entry, or, where it does not, the server.
    async fn told(&self, dir: &Handle, entry: &Entry) -> Result<(u64, Kind), Error> {
        match (&entry.handle, &entry.attributes) {
            (Some(handle), Some(attributes)) => Ok((number_of(handle), attributes.kind)),
            (_, Some(attributes)) => Ok((attributes.file_id, attributes.kind)),
            _ if entry.name == "." || entry.name == ".." => Ok((entry.file_id, Kind::Directory)),
            _ => match nfs::lookup(&self.client, dir, &entry.name).await {
                Ok((handle, Some(attributes))) => Ok((number_of(&handle), attributes.kind)),
                Ok((handle, None)) => Ok((number_of(&handle), nfs::get_attributes(&self.client, &handle).await?.kind)),
                // It is gone by now. Who looks will find that out.
                Err(Error::Status(NOT_FOUND)) => Ok((entry.file_id, Kind::File)),
                Err(error) => Err(error),
            },
        }
    }

    /// Gives the file of a name another one when it is open, since its bytes would be gone with its last name.
    async fn hide_if_open(&self, dir: &Handle, name: &[u8]) -> Result<bool, Error> {
        if self.state().open.is_empty() {
            return Ok(false);
        }
        let (handle, attributes) = match nfs::lookup(&self.client, dir, name).await {
            Err(Error::Status(NOT_FOUND)) => return Ok(false),
            found => found?,
        };
        let number = number_of(&handle);
        let is_open =
            |state: &State| state.open.get(&number).is_some_and(|open| open.times > 0 && open.hidden.is_none());
        if attributes.is_none_or(|attributes| attributes.links > 1) || !is_open(&self.state()) {
            return Ok(false);
        }
        let hidden = format!(".nfs{number:016x}").into_bytes();
        nfs::rename(&self.client, (dir, name), (dir, &hidden)).await?;
        let is_kept = match self.state().open.get_mut(&number) {
            Some(open) if open.times > 0 => {
                open.hidden = Some((dir.clone(), hidden.clone()));
                true
            }
            _ => false,
        };
        if !is_kept {
            nfs::remove(&self.client, dir, &hidden).await?;
        }
        Ok(true)
    }

    /// Commits, and writes again what the server forgot; what is on disk then is kept no longer.
    async fn put_on_disk(&self, handle: &Handle, written: &mut Vec<Written>) -> Result<(), Error> {
        if written.is_empty() {
            return Ok(());
        }
        let verifier = nfs::commit(&self.client, handle).await?;
        for Written { offset, data, .. } in written.iter().filter(|written| written.verifier != verifier) {
            let mut done = 0;
            while done < data.len() {
                let at = offset + done as u64;
                done += nfs::write(&self.client, handle, at, &data[done..], Stable::Yes).await?.bytes;
            }
        }
        written.clear();
        Ok(())
    }

    fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        (!self.sync).then(|| self.room.clone().try_acquire_many_owned(bytes).ok())?
    }

    fn written(&self, number: u64) -> Unstable {
        self.state().open.get(&number).map(|open| open.written.clone()).unwrap_or_default()
    }

    async fn made(
        &self,
        dir: &Handle,
        name: &[u8],
        handle: Option<Handle>,
        attributes: Option<Attributes>,
    ) -> Result<Found, Error> {
        let (handle, attributes) = match handle {
            Some(handle) => (handle, attributes),
            None => nfs::lookup(&self.client, dir, name).await?,
        };
        self.found(handle, attributes).await
    }

    /// Counts what the kernel is told of.
    async fn found(&self, handle: Handle, attributes: Option<Attributes>) -> Result<Found, Error> {
        let attributes = match attributes {
            Some(attributes) => attributes,
            None => nfs::get_attributes(&self.client, &handle).await?,
        };
        let mut state = self.state();
        if state.nodes[&ROOT].handle == handle {
            return Ok((ROOT, attributes));
        }
        let number = number_of(&handle);
        let node = state.nodes.entry(number).or_insert_with(|| Node { handle: handle.clone(), lookups: 0 });
        if node.handle != handle {
            // Two handles of one number: the file that the kernel does not know yet cannot be told of.
            return Err(Error::Status(STALE));
        }
        node.lookups += 1;
        Ok((number, attributes))
    }

    fn handle(&self, number: u64) -> Result<Handle, Error> {
        self.state().nodes.get(&number).map(|node| node.handle.clone()).ok_or(Error::Status(STALE))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of a handle: always the same, also after the kernel has forgotten it, and no other volume's root.
fn number_of(handle: &Handle) -> u64 {
    let mut hasher = DefaultHasher::new();
    handle.hash(&mut hasher);
    hasher.finish().max(ROOT + 1)
}
