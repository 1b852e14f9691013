//! Network namespaces: a test has routes, rules and ports of its own in one, and the machine's are left alone.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::mpsc;

use libtest_mimic::Arguments;
use nix::sched::{CloneFlags, unshare};

use crate::outcome::output;
use crate::trial::trial;

/// The ends of the link between a namespace and its [`Neighbour`].
pub const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const THERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// Runs tests as the arguments of this process say, each in a network namespace of its own: with it, the threads and
/// processes that it starts. Where no namespaces can be made they are shown as ignored.
pub fn run_in_namespaces(tests: &[(&'static str, fn())]) -> ! {
    let lacking = namespaces().err();
    if let Some(lacking) = &lacking {
        eprintln!("tests in network namespaces are ignored: they take {lacking}");
    }
    let trials = tests.iter().map(|(name, test)| {
        let test = *test;
        trial(*name, move || in_namespace(test)).with_ignored_flag(lacking.is_some())
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit()
}

/// Whether tests can be run in namespaces. Errors: what there is not.
fn namespaces() -> Result<(), String> {
    let can = std::thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET).is_ok()).join();
    if !can.unwrap_or(false) {
        return Err("the privilege to make network namespaces".to_owned());
    }
    for (program, argument) in [("ip", "-V"), ("nft", "--version")] {
        if !Command::new(program).arg(argument).output().is_ok_and(|output| output.status.success()) {
            return Err(format!("the program {program}"));
        }
    }
    Ok(())
}

fn in_namespace(test: fn()) {
    let run = move || {
        enter_new();
        test();
    };
    std::thread::spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Gives this thread a network namespace of its own, in which loopback is up.
fn enter_new() {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        panic!("cannot make a network namespace: {error}");
    }
    ip(&["link", "set", "lo", "up"]);
}

/// Runs `ip` in this thread's namespace.
fn ip(arguments: &[&str]) {
    output("ip", arguments);
}

type Job = Box<dyn FnOnce() + Send>;

/// Another network namespace, joined to this one by a link from [`HERE`] to [`THERE`]. Whatever it does not know it sends
/// here. It ends when this is dropped.
pub struct Neighbour {
    jobs: mpsc::Sender<Job>,
}

impl Neighbour {
    /// Of the calling thread's namespace; there can be one.
    pub fn new() -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            enter_new();
            let _ = tell.send(nix::unistd::gettid());
            queue.into_iter().for_each(|job| job());
        });
        let Ok(id) = told.recv() else { panic!("there is no neighbour") };
        ip(&["link", "add", "here", "type", "veth", "peer", "name", "there", "netns", &id.to_string()]);
        ip(&["address", "add", &format!("{HERE}/24"), "dev", "here"]);
        ip(&["link", "set", "here", "up"]);
        let neighbour = Self { jobs };
        neighbour.run(|| {
            ip(&["address", "add", &format!("{THERE}/24"), "dev", "there"]);
            ip(&["link", "set", "there", "up"]);
            ip(&["route", "add", "default", "via", &HERE.to_string()]);
        });
        neighbour
    }

    /// Gives it another address, and this namespace a way there.
    pub fn add_address(&self, address: Ipv4Addr) {
        let address = address.to_string();
        ip(&["route", "add", &address, "dev", "here"]);
        self.run(move || ip(&["address", "add", &format!("{address}/32"), "dev", "there"]));
    }

    /// Runs `job` there. Sockets that it makes stay there, wherever they are used.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, answered) = mpsc::channel();
        let job = move || drop(answer.send(job()));
        match (self.jobs.send(Box::new(job)), answered.recv()) {
            (Ok(()), Ok(done)) => done,
            _ => panic!("what the neighbour did failed"),
        }
    }
}

impl Default for Neighbour {
    fn default() -> Self {
        Self::new()
    }
}
