//! How much memory this machine, or the container that the program runs in, has left.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of main memory that can be used without pushing anything else out: the kernel's estimate, or what the
/// control group (a container's limit) leaves if that is less. `None` where neither can be read.
pub fn available_bytes() -> Option<u64> {
    available_under(Path::new("/"))
}

/// [`available_bytes`] with another root than `/`.
fn available_under(root: &Path) -> Option<u64> {
    let machine = field(&root.join("proc/meminfo"), "MemAvailable:").map(|kib| kib.saturating_mul(1024));
    [machine, left_in_group(root)].into_iter().flatten().min()
}

/// What the tightest of our control group and its ancestors leaves.
fn left_in_group(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    groups
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            Some((parts.next()?, parts.next()?))
        })
        .filter_map(|(controllers, path)| match controllers {
            "" => Some((&VERSION_2, path)),
            _ => controllers.split(',').any(|name| name == "memory").then_some((&VERSION_1, path)),
        })
        .flat_map(|(version, path)| {
            let mount = root.join(version.mount);
            ancestors(&mount, path).into_iter().filter_map(|group| version.left(&group))
        })
        .min()
}

/// The files of one version of the control groups' file system.
struct Version {
    mount: &'static str,
    limit: &'static str,
    usage: &'static str,
    /// Field of `memory.stat`: cached file pages that the kernel gives up before it refuses memory.
    cache: &'static str,
}

const VERSION_2: Version =
    Version { mount: "sys/fs/cgroup", limit: "memory.max", usage: "memory.current", cache: "inactive_file" };
const VERSION_1: Version = Version {
    mount: "sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cache: "total_inactive_file",
};

impl Version {
    /// Limit minus use; `None` for a group without a limit ("max", or no such file).
    fn left(&self, group: &Path) -> Option<u64> {
        let number = |file: &str| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
        let limit = number(self.limit)?;
        let cache = field(&group.join("memory.stat"), self.cache).unwrap_or(0);
        Some(limit.saturating_sub(number(self.usage)?.saturating_sub(cache)))
    }
}

/// A group's folder and those above it, down to the mount; inside a container the group's path may not
/// exist, and then the mount itself is the container's group.
fn ancestors(mount: &Path, group: &str) -> Vec<PathBuf> {
    let own = mount.join(group.trim_start_matches('/'));
    own.ancestors().take_while(|folder| folder.starts_with(mount)).map(Path::to_path_buf).collect()
}

/// The number behind a name in a file of `name number` lines.
fn field(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(char::is_whitespace))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        available_under(root.path())
    }

    const MEMINFO: (&str, &str) =
        ("proc/meminfo", "MemTotal: 8000 kB\nMemFree: 10 kB\nMemAvailable:    4000 kB\nBuffers: 1 kB\n");

    #[test]
    fn a_machine_without_limits_has_what_the_kernel_says() {
        assert_eq!(machine(&[MEMINFO]), Some(4000 << 10));
        let unlimited = [MEMINFO, ("proc/self/cgroup", "0::/a\n"), ("sys/fs/cgroup/a/memory.max", "max\n")];
        assert_eq!(machine(&unlimited), Some(4000 << 10));
        assert_eq!(machine(&[]), None);
    }

    #[test]
    fn the_tightest_group_decides_and_its_cache_counts_as_free() {
        let limited = [
            MEMINFO,
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/b/memory.max", "3000000\n"),
            ("sys/fs/cgroup/a/b/memory.current", "1000\n"),
            ("sys/fs/cgroup/a/memory.max", "1000000\n"),
            ("sys/fs/cgroup/a/memory.current", "600000\n"),
            ("sys/fs/cgroup/a/memory.stat", "file 9\ninactive_file 100000\nactive_file 7\n"),
        ];
        assert_eq!(machine(&limited), Some(500_000));
    }

    #[test]
    fn a_container_of_version_1_sees_its_limit_at_the_mount() {
        let limited = [
            MEMINFO,
            ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/4711\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "2000000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "500000\n"),
        ];
        assert_eq!(machine(&limited), Some(1_500_000));
    }

    #[test]
    fn a_group_above_its_limit_has_nothing_left() {
        let limited = [
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "1000\n"),
            ("sys/fs/cgroup/memory.current", "5000\n"),
        ];
        assert_eq!(machine(&limited), Some(0));
    }
}
