import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { checkout } from '../lab/built.ts';
import { bareRoot } from '../lab/engine.ts';
import { ensureBusyboxImage, ensureTestImage } from '../lab/image.ts';
import { copyCheckout } from '../lab/installation.ts';
import { startMachine, type Machine } from '../lab/machine.ts';
import { Page } from '../lab/page.ts';
import { outputOf } from '../lab/process.ts';
import { startProxy, type Proxy } from '../lab/proxy.ts';
import { unlessLong } from '../lab/long.ts';
import { eventually } from '../lab/poll.ts';

const source = '/root/calico-cnm';
const certificates = '/etc/ssl/certs/ca-certificates.crt';

test('the progress of a step that ends at once stops with it', async () => {
  const install = readFileSync(`${checkout}/plugin/install`, 'utf8');
  const parts = [/^trap .*TERM$/m, /^begin\(\) \{\n[^]*?^\}/m, /^end_dots\(\) \{\n[^]*?^\}/m];
  const steps = 'n=0; while [ $n -lt 1000 ]; do begin step; end_dots; n=$((n + 1)); done';
  const script = [...parts.map((part) => part.exec(install)?.[0] ?? assert.fail()), steps];
  const output = await outputOf(['sh', '-c', script.join('\n')], { timeoutMs: 120_000 });
  assert.equal(output.trim().split('\n').length, 1000);
});

describe('a bare Debian 12', { timeout: 900_000 }, () => whatMustBeTrueOf('bookworm'));
describe('a bare Debian 13', { timeout: 900_000, skip: unlessLong() }, () =>
  whatMustBeTrueOf('trixie'),
);

function whatMustBeTrueOf(suite: 'bookworm' | 'trixie'): void {
  let machine: Machine;
  let proxy: Proxy;
  before(async () => {
    const root = await bareRoot(suite);
    machine = await startMachine({ root, backend: 'nft', uplink: false, bare: true });
    await outputOf([...machine.enterNetwork, 'ip', 'link', 'set', 'lo', 'up']);
    proxy = await startProxy(machine);
    await copyCheckout(machine, source);
    // What the machine writes lies in memory, where waiting for the disk is of no use.
    await machine.run(['sh', '-c', 'echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/lab']);
    // The control groups of the containers are to go with the machine.
    const daemon = {
      'cgroup-parent': `/${machine.name}`,
      'exec-opts': ['native.cgroupdriver=cgroupfs'],
    };
    await machine.run(['sh', '-c', 'mkdir -p /etc/docker && cat >/etc/docker/daemon.json'], {
      input: JSON.stringify(daemon),
    });
    await trustWhatThisMachineTrusts();
  });
  after(async () => {
    await proxy[Symbol.asyncDispose]();
    await machine[Symbol.asyncDispose]();
  });

  const install = () =>
    machine.run([`${source}/plugin/install`], { timeoutMs: 600_000, env: proxy.environment });
  const readme = new Page('README.md', alike);
  /** A shell in which what was assigned stays; it answers all that a command says. */
  const assigned: string[] = [];
  const shell = async (command: string) => {
    if (/^[a-z]+=/.test(command)) assigned.push(command);
    const { stdout, stderr } = await machine.exec([
      'sh',
      '-c',
      [`cd ${source}`, ...assigned, command].join('\n'),
    ]);
    return alike(stdout + stderr);
  };

  test('without a network command one says in one sentence what it needs', async () => {
    const { status, stderr } = await machine.exec([`${source}/plugin/install`]);
    assert.notEqual(status, 0);
    assert.match(
      stderr,
      /\ncalico-cnm: cannot install docker\.io.* from Debian .*network or proxy\n$/,
    );
  });

  test('command one waits for apt, installs everything, and says what to type next', async () => {
    const hold = `use Fcntl; $| = 1; open my $file, '>', '/var/lib/dpkg/lock-frontend';
      my $lock = pack('ssx4qqix4', F_WRLCK, 0, 0, 0, 0);
      fcntl($file, F_SETLK, $lock) or die $!; print 'held'; sleep 600`;
    const holder = machine.spawn(['perl', '-e', hold], { LC_ALL: 'C' });
    assert.ok(await eventually(() => holder.output().endsWith('held')), holder.output());
    const installing = machine.spawn([`${source}/plugin/install`], proxy.environment);
    const waits =
      /\nwaiting for the apt lock \(\/var\/lib\/dpkg\/lock-frontend, held by process \d+ \(perl\)\)/;
    assert.ok(
      await eventually(() => waits.test(installing.output()), 300_000),
      installing.output(),
    );
    await holder.end('SIGKILL');
    assert.equal(await installing.ended(600_000), 0, installing.output());
    const said = installing.output();
    assert.match(
      said,
      /^installing from Debian: docker\.io .*building the program meanwhile.*\) \./,
    );
    assert.match(said, /^building the program .* \d+ s$/m);
    // Neither npm with its 400 packages nor another Node.
    assert.equal(
      (await machine.exec(['sh', '-c', 'command -v npm || command -v node'])).status,
      127,
    );
    assert.match(said, /calico-cnm \S+ is installed and running/);
    assert.match(said, /docker network create --driver calico/);
    await ensureTestImage(machine);
  });

  test('quick start and tour of the README work as they stand, and print what they show', async () => {
    await ensureBusyboxImage(machine);
    await readme.run('Quick start', shell);
    for (let block = 0; block < 5; block++) await readme.run('Tour', shell);
  });

  test('an ordinary user is told to use sudo', async () => {
    const asNobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
    for (const command of ['status', 'get wep', 'profile show', 'ports']) {
      const { status, stderr } = await machine.exec([
        ...asNobody,
        'calico-cnm',
        ...command.split(' '),
      ]);
      assert.equal(status, 1, command);
      const expected =
        /^calico-cnm: permission denied \(.*\); run as root: sudo calico-cnm (.*)\n$/.exec(stderr);
      assert.equal(expected?.[1], command, stderr);
    }
    assert.equal((await machine.exec([...asNobody, 'calico-cnm', '--help'])).status, 0);
  });

  test('pages that installed files speak of are installed', async () => {
    const library = '/usr/local/lib/calico-cnm/current';
    const files = `/etc/calico/calico-cnm.env ${library}/README.md ${library}/docs/*.md ${library}/plugin/*`;
    const named = await machine.run([
      'sh',
      '-c',
      `grep -ohsE '(/[a-z/-]+/)?docs/[a-z0-9-]+\\.md' ${files} | sort -u`,
    ]);
    const pages = named.trim().split('\n');
    assert.ok(pages.includes(`${library}/docs/settings.md`), named);
    for (const page of pages) {
      const path = page.startsWith('/') ? page : `${library}/${page}`;
      assert.equal((await machine.exec(['test', '-e', path])).status, 0, page);
    }
  });

  test('run again it changes nothing', async () => {
    const processes = () =>
      machine.run([
        'sh',
        '-c',
        'cat /run/calico/supervise.pid; readlink /usr/local/lib/calico-cnm/current',
      ]);
    const before = await processes();
    assert.match(await install(), /already installed and running/);
    assert.equal(await processes(), before);
  });

  test('from a newer checkout it upgrades, and running containers keep their network', async () => {
    await machine.run(['sh', '-c', `echo '// newer' >>${source}/src/version.ts`]);
    const release = () => machine.run(['readlink', '/usr/local/lib/calico-cnm/current']);
    const before = await release();
    await install();
    assert.notEqual(await release(), before);
    const { stdout } = await machine.exec([
      'docker',
      'run',
      '--rm',
      '--net',
      'web',
      'calico-test',
      'wget',
      '-qO-',
      'app:8080',
    ]);
    assert.equal(stdout, 'hello\n');
  });

  test('the daemon that died is started again', async () => {
    const daemon = () =>
      machine.run([
        'sh',
        '-c',
        "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -q '[d]ist/main.js run' && basename $p; done; true",
      ]);
    const before = await daemon();
    assert.match(before, /^\d+$/);
    await machine.run(['sh', '-c', `kill -9 ${before}`]);
    await machine.run([
      'sh',
      '-c',
      'for i in $(seq 50); do sleep 0.2; calico-cnm status >/dev/null 2>&1 && exit 0; done; exit 1',
    ]);
    assert.notEqual(await daemon(), before);
  });

  test('uninstall refuses while networks exist, and then leaves nothing in the kernel', async () => {
    const refused = await machine.exec([`${source}/plugin/uninstall`]);
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /these networks use calico: .*web/);
    await readme.run('Tour', shell);
    await machine.run([`${source}/plugin/uninstall`, '--purge']);
    assert.doesNotMatch(await machine.run(['iptables-save']), /cali/);
    assert.equal((await machine.exec(['sh', '-c', 'command -v calico-cnm'])).status, 127);
    assert.equal((await machine.exec(['test', '-e', '/var/lib/calico/calico.db'])).status, 1);
  });

  /** Where downloads go through an inspecting gateway, its certificate must be known inside as well. */
  async function trustWhatThisMachineTrusts(): Promise<void> {
    if (!existsSync(certificates)) return;
    const input = readFileSync(certificates);
    await machine.run(['sh', '-c', 'cat >/root/trusted.crt'], { input });
    await machine.run(['sh', '-c', 'echo cafile=/root/trusted.crt >/root/.npmrc']);
    const apt = 'Acquire::https::CaInfo "/root/trusted.crt";';
    await machine.run(['sh', '-c', 'cat >/etc/apt/apt.conf.d/trusted'], { input: apt });
  }
}

/** A text with a word in the place of each address, time and number that is another one on each host. */
function alike(text: string): string {
  return (
    text
      // The daemon starts before Docker, and says for a while that it waits for it.
      .replaceAll(/^ +ok +background tasks: .*\n/gm, '')
      .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
      .replaceAll(/ on [\w.-]+, up since/g, ' on HOST, up since')
      .replaceAll(/iptables v[\d.]+/g, 'iptables VERSION')
      .replaceAll(/\b10\.65\.\d+\.\d+\b(?!\/16)/g, 'ADDRESS')
      .replaceAll(/\b169\.254\.\d+\.\d+/g, 'NEXT_HOP')
      .replaceAll(/fd[\da-f]{2}:[\da-f:]+\/48/g, 'PREFIX')
      .replaceAll(/cali[\da-f]{11}\b/g, 'INTERFACE')
      .replaceAll(/(no matching rule) +\d+ +\d+/g, '$1 PACKETS BYTES')
  );
}
