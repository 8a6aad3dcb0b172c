"""The same recipe for each tool, and how each is told to check it and to carry it out, at its best."""

import json
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ["qemu-system-x86", "qemu-system-common", "socat", "git", "make", "rsync"]
MODULES = "kvm\nvhost_vsock\n"
RULE = 'KERNEL=="vhost-vsock", GROUP="kvm", MODE="0660"\n'
ASK_QEMU = "qemu-system-x86_64 -M help"


@dataclass(frozen=True)
class Host:
    """A host as ssh reaches it."""

    name: str
    user: str
    address: str
    port: str
    identity: str
    known_hosts: str


TORIL = f"""
description = "What the benchmarks want of a host"
supports = ["debian 12"]

[[resource]]
name = "packages"
apt-packages = {{ install = {json.dumps(PACKAGES)} }}

[[resource]]
name = "membership"
membership = {{ user = "debian", groups = ["kvm"] }}
needs = ["packages"]

[[resource]]
name = "modules"
file = {{ path = "/etc/modules-load.d/benchmark.conf", content = {json.dumps(MODULES)} }}

[[resource]]
name = "rule"
file = {{ path = "/etc/udev/rules.d/65-benchmark.rules", content = {json.dumps(RULE)} }}

[[resource]]
name = "directory"
directory = {{ path = "/srv/benchmark" }}

[[resource]]
name = "directory of kernels"
directory = {{ path = "/srv/benchmark/kernels", mode = "0750", group = "kvm" }}
needs = ["packages"]

[[resource]]
name = "link"
symlink = {{ path = "/srv/benchmark/current", target = "kernels/hello.elf" }}

[[resource]]
name = "notice"
template = {{ path = "/srv/benchmark/notice", source = "notice.hbs" }}

[[resource]]
name = "QEMU offers microvm"
assert = {{ command = {json.dumps(ASK_QEMU.split())}, contains = "microvm" }}
needs = ["packages"]
"""

# The module of apt says nothing of lists: as with toril, they are fetched where they are missing or old.
ANSIBLE = f"""
- hosts: all
  become: true
  gather_facts: false
  tasks:
    - ansible.builtin.apt: {{ name: {json.dumps(PACKAGES)}, state: present, install_recommends: false, update_cache: true, cache_valid_time: 86400 }}
    - ansible.builtin.user: {{ name: debian, groups: [kvm], append: true }}
    - ansible.builtin.copy: {{ dest: /etc/modules-load.d/benchmark.conf, content: {json.dumps(MODULES)}, mode: "0644" }}
    - ansible.builtin.copy: {{ dest: /etc/udev/rules.d/65-benchmark.rules, content: {json.dumps(RULE)}, mode: "0644" }}
    - ansible.builtin.file: {{ path: /srv/benchmark, state: directory, mode: "0755" }}
    - ansible.builtin.file: {{ path: /srv/benchmark/kernels, state: directory, mode: "0750", group: kvm }}
    - ansible.builtin.file: {{ path: /srv/benchmark/current, src: kernels/hello.elf, state: link, force: true }}
    - ansible.builtin.template: {{ dest: /srv/benchmark/notice, src: notice.j2, mode: "0644" }}
    - ansible.builtin.command: {json.dumps(ASK_QEMU)}
      register: machines
      changed_when: false
      check_mode: false
      failed_when: "'microvm' not in machines.stdout"
"""

ANSIBLE_CONFIGURATION = """
[defaults]
inventory = hosts.ini
forks = {forks}
host_key_checking = true
[ssh_connection]
pipelining = true
ssh_args = -o ControlMaster=auto -o ControlPersist=60s{exchange}
control_path_dir = {sockets}
"""

PYINFRA = f"""
from pyinfra import config, host
from pyinfra.operations import apt, files, server

config.SUDO = True
apt.packages(packages={PACKAGES!r}, no_recommends=True, update=False)
server.user(user="debian", groups=["kvm"], append=True)
files.put(src="modules.conf", dest="/etc/modules-load.d/benchmark.conf", mode="644")
files.put(src="benchmark.rules", dest="/etc/udev/rules.d/65-benchmark.rules", mode="644")
files.directory(path="/srv/benchmark", mode="755")
files.directory(path="/srv/benchmark/kernels", mode="750", group="kvm")
files.link(path="/srv/benchmark/current", target="kernels/hello.elf")
files.template(src="notice.j2", dest="/srv/benchmark/notice", mode="644", host_name=host.name)
server.shell(commands=["{ASK_QEMU} | grep -q microvm"])
"""

# What somebody would write who wants to know the same, in one go.
BY_HAND = f"""
set -e
dpkg-query --show --showformat '${{db:Status-Status}}\\n' {' '.join(PACKAGES)} | grep -vx installed && exit 1
id -nG debian | grep -qw kvm
printf '{MODULES.encode('unicode_escape').decode()}' | cmp - /etc/modules-load.d/benchmark.conf
printf '{RULE.encode('unicode_escape').decode()}' | cmp - /etc/udev/rules.d/65-benchmark.rules
test "$(stat -c '%a %U %G' /srv/benchmark /srv/benchmark/kernels)" = "755 root root
750 root kvm"
test "$(readlink /srv/benchmark/current)" = kernels/hello.elf
grep -qx "A host for benchmarks: $1" /srv/benchmark/notice
{ASK_QEMU} | grep -q microvm
"""
INSTALL_BY_HAND = f"""
set -e
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends {' '.join(PACKAGES)}
"""


class Tools:
    """All of it for some hosts, in a directory of their own."""

    def __init__(self, directory: Path, toril: str, environments: Path, hosts: list[Host], exchange: str):
        self.directory, self.toril, self.environments, self.hosts = directory, toril, environments, hosts
        self.exchange = exchange
        self.sockets = directory / "s"
        self.sockets.mkdir(parents=True, mode=0o700)
        for name, text in [("recipe.toml", TORIL), ("notice.hbs", "A host for benchmarks: {{ host.name }}\n"),
                           ("play.yml", ANSIBLE), ("notice.j2", "A host for benchmarks: {{ host_name }}\n"),
                           ("deploy.py", PYINFRA), ("modules.conf", MODULES), ("benchmark.rules", RULE),
                           ("check.sh", BY_HAND), ("install.sh", INSTALL_BY_HAND)]:
            (directory / name).write_text(text)
        self._inventories()
        self._by_hand("check"), self._by_hand("install")

    def _inventories(self) -> None:
        def toril(host: Host) -> str:
            return (f'[hosts.{host.name}]\naddress = "{host.address}"\nport = {host.port}\nuser = "{host.user}"\n'
                    f'identity = "{host.identity}"\nknown-hosts = "{host.known_hosts}"\n')

        def ansible(host: Host) -> str:
            return (f"{host.name} ansible_host={host.address} ansible_port={host.port} ansible_user={host.user} "
                    f"ansible_ssh_private_key_file={host.identity} host_name={host.name} ansible_python_interpreter=/usr/bin/python3 "
                    f"ansible_ssh_common_args='-o UserKnownHostsFile={host.known_hosts} -o IdentitiesOnly=yes'")

        def pyinfra(host: Host) -> tuple:
            return host.name, {"ssh_hostname": host.address, "ssh_port": int(host.port), "ssh_user": host.user,
                               "ssh_key": host.identity, "ssh_known_hosts_file": host.known_hosts,
                               "ssh_look_for_keys": False, "ssh_allow_agent": False}

        exchange = f" -o KexAlgorithms={self.exchange}" if self.exchange else ""
        for name, text in [
            ("inventory.toml", "\n".join(map(toril, self.hosts))),
            ("hosts.ini", "\n".join(map(ansible, self.hosts)) + "\n"),
            ("hosts.py", f"hosts = {[pyinfra(host) for host in self.hosts]!r}\n"),
            ("ansible.cfg", ANSIBLE_CONFIGURATION.format(forks=len(self.hosts), sockets=self.sockets, exchange=exchange)),
        ]:
            (self.directory / name).write_text(text)

    def _by_hand(self, what: str) -> None:
        """A script that does it on all hosts at once, over new connections or over ones that are open."""
        exchange = f"-o KexAlgorithms={self.exchange}" if self.exchange else ""
        lines = [f"for host in {' '.join(str(number) for number in range(len(self.hosts)))}; do", "case $host in"]
        for number, host in enumerate(self.hosts):
            lines.append(f"{number}) way='-o IdentitiesOnly=yes -o UserKnownHostsFile={host.known_hosts} -i {host.identity} "
                         f"-p {host.port} {host.user}@{host.address}' name={host.name};;")
        lines += ["esac",
                  f"ssh {exchange} $STANDING $way sudo sh -s $name < {what}.sh > out.$host 2>&1 || echo $name failed &",
                  "done", "wait"]
        (self.directory / f"by-hand-{what}.sh").write_text("\n".join(lines) + "\n")

    def environment(self, standing: bool) -> dict[str, str]:
        kept = f"-o ControlMaster=auto -o ControlPersist=600 -o ControlPath={self.sockets}/%C"
        return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.directory), "LANG": "C.UTF-8",
                "XDG_RUNTIME_DIR": str(self.sockets), "STANDING": kept if standing else "",
                "ANSIBLE_CONFIG": str(self.directory / "ansible.cfg"), "ANSIBLE_LOCAL_TEMP": str(self.directory / "local")}

    def command(self, tool: str, work: str, standing: bool = False) -> list[str]:
        """What carries out `work`: check, apply or first (an apply to a host that has nothing yet)."""
        if tool == "by hand":
            return ["sh", "by-hand-install.sh" if work == "first" else "by-hand-check.sh"]
        if tool.startswith("toril"):
            way = ["--parallel", str(len(self.hosts)), *(["--standing", "10m"] if standing else [])]
            if tool == "toril by russh":
                way += ["--transport", "russh"]
            elif self.exchange:
                way += ["-o", f"KexAlgorithms={self.exchange}"]
            what = ["check"] if work == "check" else ["apply", "--yes"]
            return [self.toril, *what, "--recipe", "recipe.toml", *way, "all"]
        if tool == "Ansible":
            dry = ["--check", "--diff"] if work == "check" else []
            return [str(self.environments / "ansible/bin/ansible-playbook"), *dry, "play.yml"]
        dry = ["--dry", "--diff"] if work == "check" else ["-y"]
        return [str(self.environments / "pyinfra/bin/pyinfra"), *dry, "hosts.py", "deploy.py"]
