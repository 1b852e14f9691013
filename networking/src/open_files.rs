//! Room for open files and sockets: those of guests are descriptors of the node's one process, as its own are.

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};

/// The part of what this process may have open that guests find; the rest is left to the node itself.
const GUESTS_PART: u64 = 2;

/// Whether there is room for what was just opened for a guest.
///
/// # Errors
/// ENFILE once half of what this process may have open is in use.
pub fn check_room(opened: &impl AsRawFd) -> io::Result<()> {
    let (most, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // The kernel gives the lowest number that is free: as many as that are in use.
    let in_use = u64::try_from(opened.as_raw_fd()).map_err(|_| Errno::EBADF)?;
    if in_use < most / GUESTS_PART { Ok(()) } else { Err(Errno::ENFILE.into()) }
}

/// Whether an error says that too many are open: of whoever asks, or of all together.
pub fn are_too_many(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EMFILE | Errno::ENFILE))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd as _;

    use nix::fcntl::{FcntlArg, fcntl};
    use nix::unistd::close;

    use super::*;

    #[test]
    fn guests_find_half_of_what_may_be_open() {
        let opened = File::open("/").unwrap();
        check_room(&opened).unwrap();
        let (most, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let half = i32::try_from(most / GUESTS_PART).unwrap();
        for (number, has_room) in [(half - 1, true), (half, false)] {
            // As if all numbers before it were in use.
            let number = fcntl(opened.as_fd(), FcntlArg::F_DUPFD_CLOEXEC(number)).unwrap();
            let checked = check_room(&number).map_err(|error| are_too_many(&error));
            assert_eq!(checked, if has_room { Ok(()) } else { Err(true) });
            close(number).unwrap();
        }
    }
}
