//! Which process is at the other end of a connection.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

/// Whether this process holds the connection from `client` to the proxy's port.
pub(super) fn owns(process: u32, client: SocketAddr, port: u16) -> bool {
    let Some(inode) = inode(client.port(), port) else { return false };
    let wanted = format!("socket:[{inode}]");
    // A process that has ended owns nothing.
    let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    let mut links = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    links.any(|link| link == Path::new(&wanted))
}

/// The number of the client's socket, as /proc/net/tcp has it: local and remote address in hexadecimal, inode tenth.
fn inode(local: u16, remote: u16) -> Option<String> {
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux has it");
    let port = |address: &str| u16::from_str_radix(address.split_once(':')?.1, 16).ok();
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = port(fields[1]) == Some(local) && port(fields[2]) == Some(remote);
        is_it.then(|| fields[9].to_owned())
    })
}
