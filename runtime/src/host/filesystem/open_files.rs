//! How many files and directories the guests of a container have open: each is a descriptor of the node's one process.
//!
//! wasmtime-wasi's descriptors, and the streams that outlive them, share one handle to what is open. It is that handle which
//! is counted, for as long as anybody has it.

use std::any::Any;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use nix::errno::Errno;

/// What a container has open.
#[derive(Debug)]
pub struct OpenFiles {
    most: usize,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    /// Some may be closed by now.
    handles: Vec<Weak<dyn Any + Send + Sync>>,
    /// Beside those: what is being opened, and the container's mounts.
    others: usize,
}

/// Room for one more. Dropping it gives that back.
#[derive(Debug)]
pub struct Place<'f>(&'f OpenFiles);

impl OpenFiles {
    /// For a container that may have at most so many, its mounts among them.
    pub fn new(most: usize, mounts: usize) -> OpenFiles {
        OpenFiles { most, open: Mutex::new(Open { handles: Vec::new(), others: mounts }) }
    }

    /// To be taken before something is opened.
    ///
    /// # Errors
    /// EMFILE
    pub fn place(&self) -> io::Result<Place<'_>> {
        let mut open = self.lock();
        if open.handles.len() == open.handles.capacity() || open.count() >= self.most {
            open.handles.retain(|handle| handle.strong_count() > 0);
        }
        if open.count() >= self.most {
            return Err(Errno::EMFILE.into());
        }
        open.others += 1;
        Ok(Place(self))
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn count(&self) -> usize {
        self.handles.len() + self.others
    }
}

impl Place<'_> {
    /// Counts what was opened for as long as somebody has its handle.
    pub fn keep(self, handle: Weak<dyn Any + Send + Sync>) {
        self.0.lock().handles.push(handle);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.lock().others -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_is_open_counts_until_its_last_handle_is_gone() {
        let files = OpenFiles::new(5, 1);
        let open = || {
            let (place, handle) = (files.place()?, Arc::new(()));
            place.keep(Arc::<()>::downgrade(&handle));
            io::Result::Ok(handle)
        };
        let mut all: Vec<_> = (0..4).map(|_| open().unwrap()).collect();
        let stream = all[0].clone();
        assert_eq!(open().unwrap_err().raw_os_error(), Some(Errno::EMFILE as i32));
        all.remove(0);
        assert!(open().is_err(), "a stream has it still");
        drop(stream);
        drop(files.place().unwrap());
        let failed = files.place().unwrap();
        assert!(open().is_err(), "what is being opened counts");
        drop(failed);
        all.push(open().unwrap());
        assert!(open().is_err());
    }
}
