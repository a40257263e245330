//! Memory that the kernel holds for sockets, which no process is charged with.

use std::fs;

/// Caches of processes, files and block devices: other work on the machine moves them, idle sessions do not. Sockets in
/// TIME-WAIT are left out because they belong to the rounds before.
const UNRELATED: [&str; 24] = [
    "anon_vma",
    "bdev_cache",
    "bio-",
    "btrfs_",
    "buffer_head",
    "cred_jar",
    "dentry",
    "ext4_",
    "files_cache",
    "fs_cache",
    "inode_cache",
    "jbd2_",
    "kernfs_",
    "maple_node",
    "mm_struct",
    "pid",
    "proc_",
    "radix_tree_node",
    "shmem_",
    "sighand",
    "signal_cache",
    "task_struct",
    "tw_sock_",
    "vm_area_struct",
];

/// Size of a dentry, of which each socket has one.
const DENTRY: u64 = 192;

/// Bytes in the kernel's caches that grow with connections: sockets, files, epoll items and small allocations. Falls
/// back to the whole of Slab where /proc/slabinfo may not be read (it needs root).
pub(crate) fn connection_memory() -> u64 {
    match fs::read_to_string("/proc/slabinfo") {
        Ok(text) => text.lines().filter_map(cache_bytes).sum::<u64>() + sockets() * DENTRY,
        Err(_) => whole_slab(),
    }
}

/// Objects in use times their size, with the share of the padding between slabs.
fn cache_bytes(line: &str) -> Option<u64> {
    let mut words = line.split_ascii_whitespace();
    let name = words.next()?;
    if name.starts_with('#') || UNRELATED.iter().any(|prefix| name.starts_with(prefix)) {
        return None;
    }
    let mut number = || -> Option<u64> { words.next()?.parse().ok() };
    let (active, _all, _size, per_slab, pages) = (number()?, number()?, number()?, number()?, number()?);
    Some(active * pages * 4096 / per_slab.max(1))
}

fn sockets() -> u64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("sockets: used ")?.trim().parse().ok()).unwrap_or(0)
}

fn whole_slab() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let slab = text.lines().find_map(|line| line.strip_prefix("Slab:")?.split_ascii_whitespace().next()?.parse().ok());
    slab.unwrap_or(0u64) * 1024
}
