//! `stat FILE…`: size, permissions and times of files.

use std::io::{self, Write};

use jiff::Timestamp;

use super::{Info, Kind, Session, mode_text, reason};

pub fn run(session: &mut Session<'_>) -> io::Result<i32> {
    let (_, paths) = match session.options("") {
        Ok(options) => options,
        Err(code) => return Ok(code),
    };
    if paths.is_empty() {
        return Ok(session.complain("missing operand"));
    }
    let tree = session.tree()?;
    let mut code = 0;
    for path in paths {
        match tree.link_metadata(&session.absolute(&path)) {
            Ok(info) => show(session, &path, &info)?,
            Err(error) => code = session.complain(&format!("cannot stat '{path}': {}", reason(&error))),
        }
    }
    Ok(code)
}

fn show(session: &mut Session<'_>, path: &str, info: &Info) -> io::Result<()> {
    let kind = match info.kind {
        Kind::File => "regular file",
        Kind::Directory => "directory",
        Kind::Link => "symbolic link",
        Kind::Other => "special file",
    };
    let Info { mode, size, links, owner, group, inode, .. } = info;
    let modified = Timestamp::try_from(info.modified).map_or_else(|_| "-".to_owned(), |time| time.to_string());
    writeln!(session.stdout, "  File: {path}")?;
    writeln!(session.stdout, "  Size: {size:<12} {kind}")?;
    writeln!(session.stdout, " Inode: {inode:<12} Links: {links}")?;
    writeln!(session.stdout, "Access: ({mode:04o}/{})  Uid: {owner}  Gid: {group}", mode_text(info))?;
    writeln!(session.stdout, "Modify: {modified}")
}
