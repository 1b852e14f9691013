//! Tests of what a server can do to its clients that lies, or says the same for ever.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::answers::Kind;
use super::files::{Files, ROOT};
use super::options::Options;
use super::procedures::{self, Changes};
use super::rpc::{Client, Credentials, Manner};
use super::xdr::Writer;

const WAIT: Duration = Duration::from_millis(300);

/// What a server answers to a procedure, from the status on.
type Answers = fn(u32) -> Vec<u8>;

async fn serve(mut stream: TcpStream, answers: Answers) -> std::io::Result<()> {
    loop {
        let length = stream.read_u32().await? & !(1 << 31);
        let mut call = vec![0; length as usize];
        stream.read_exact(&mut call).await?;
        let id = u32::from_be_bytes(call[..4].try_into().unwrap());
        let procedure = u32::from_be_bytes(call[20..24].try_into().unwrap());
        let head = Writer::default().u32(id).u32(1).u32(0).u32(0).opaque(&[]).u32(0).finish();
        let message = [head, answers(procedure)].concat();
        stream.write_u32(u32::try_from(message.len()).unwrap() | (1 << 31)).await?;
        stream.write_all(&message).await?;
    }
}

async fn client(answers: Answers) -> Client {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answers));
        }
    });
    let manner = Manner { credentials: Credentials::of_process(), reserved_port: false, wait: WAIT };
    Client::new(address, procedures::PROGRAM, manner)
}

/// An honest answer to what is asked first: GETATTR of a directory, and FSINFO.
fn greeting(procedure: u32) -> Option<Vec<u8>> {
    match procedure {
        1 => Some((0..20).fold(Writer::default().u32(0).u32(2), Writer::u32).finish()),
        19 => Some((0..7).fold(Writer::default().u32(0).u32(0), |writer, _| writer.u32(1 << 16)).finish()),
        _ => None,
    }
}

async fn files(answers: Answers) -> Files {
    Files::open(client(answers).await, "root".into(), &Options::parse(&[]).unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_directory_without_end_ends() {
    let endless: Answers = |procedure| {
        greeting(procedure).unwrap_or_else(|| {
            let answer = Writer::default().u32(0).u32(0).fixed(&[0; 8]);
            let entry = |answer: Writer, _| answer.u32(1).u64(1).opaque(b".").u64(1).u32(0).u32(0);
            (0..16_000).fold(answer, entry).u32(0).u32(0).finish()
        })
    };
    let files = files(endless).await;
    let id = files.open_dir();
    let mut listed = 0;
    let take = |_: u64, _: u64, kind: Kind, _: &[u8]| {
        assert_eq!(kind, Kind::Directory);
        listed += 1;
        false
    };
    let ended = files.read_dir(ROOT, id, 0, take).await.unwrap_err();
    assert_eq!(ended.errno(), libc::EFBIG);
    assert!(listed > 1_000_000);
}

#[tokio::test]
async fn whatever_is_answered_every_call_ends() {
    let nothing: Answers = |procedure| greeting(procedure).unwrap_or_default();
    let zeros: Answers = |procedure| greeting(procedure).unwrap_or_else(|| vec![0; 400]);
    let lengths: Answers = |procedure| greeting(procedure).unwrap_or_else(|| [&[0; 4][..], &[255; 400]].concat());
    let later: Answers = |procedure| greeting(procedure).unwrap_or_else(|| 10_008_u32.to_be_bytes().to_vec());
    for (name, answers) in [("nothing", nothing), ("zeros", zeros), ("lengths", lengths), ("later", later)] {
        let files = files(answers).await;
        let id = files.open_dir();
        let listed = files.read_dir(ROOT, id, 0, |_, _, _, _| false);
        let (looked, made) = (files.lookup(ROOT, b"a"), files.create(ROOT, b"a", Changes::default(), true));
        let (read, written) = (files.read(ROOT, 0, 4096), files.write(ROOT, 0, "text".into()));
        let (listed, looked, made, read, written) = tokio::join!(listed, looked, made, read, written);
        assert!(written.is_err(), "{name}");
        let told = [listed.is_ok(), looked.is_ok(), made.is_ok(), read.is_ok_and(|data| !data.is_empty())];
        // Handles may be empty.
        let is_found = name == "zeros";
        assert_eq!(told, [false, is_found, is_found, false], "{name}");
        assert_eq!(files.remove(ROOT, b"a").await.is_ok(), is_found || name == "lengths", "{name}");
    }
}
