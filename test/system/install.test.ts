import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { bareRoot } from '../lab/engine.ts';
import { ensureTestImage } from '../lab/image.ts';
import { copyCheckout } from '../lab/installation.ts';
import { startMachine, type Machine } from '../lab/machine.ts';
import { outputOf } from '../lab/process.ts';
import { startProxy, type Proxy } from '../lab/proxy.ts';
import { unlessLong } from '../lab/long.ts';

const source = '/root/calico-cnm';
const certificates = '/etc/ssl/certs/ca-certificates.crt';

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
    proxy[Symbol.dispose]();
    await machine[Symbol.asyncDispose]();
  });

  const install = () =>
    machine.run([`${source}/plugin/install`], { timeoutMs: 600_000, env: proxy.environment });
  const docker = (...argv: readonly string[]) => machine.run(['docker', ...argv]);

  test('without a network command one says in one sentence what it needs', async () => {
    const { status, stderr } = await machine.exec([`${source}/plugin/install`]);
    assert.notEqual(status, 0);
    assert.match(stderr, /\ncalico-cnm: Debian does not give docker\.io.*network or proxy\n$/);
  });

  test('command one installs everything and says what to type next', async () => {
    const said = await install();
    assert.match(said, /calico-cnm \S+ is installed and running/);
    assert.match(said, /docker network create --driver calico/);
    await ensureTestImage(machine);
  });

  test('the tour of the README works', async () => {
    await docker('network', 'create', '--driver', 'calico', '--ipam-driver', 'calico-ipam', 'web');
    await docker(
      'network',
      'create',
      '--driver',
      'calico',
      '--ipam-driver',
      'calico-ipam',
      'other',
    );
    await docker(
      'run',
      '-d',
      '--name',
      'app',
      '--net',
      'web',
      'calico-test',
      'httpd',
      '-f',
      '-p',
      '8080',
      '-h',
      '/www',
    );
    const once = (network: string, to: string) =>
      machine.exec([
        'docker',
        'run',
        '--rm',
        '--net',
        network,
        'calico-test',
        'sh',
        '-c',
        `timeout 3 wget -qO- ${to}:8080; exit $?`,
      ]);
    assert.equal((await once('web', 'app')).stdout, 'hello\n');
    const address = await docker(
      'inspect',
      '-f',
      '{{.NetworkSettings.Networks.web.IPAddress}}',
      'app',
    );
    assert.notEqual((await once('other', address)).status, 0);
    assert.match(
      await machine.run(['calico-cnm', 'status']),
      /all is well[\s\S]*no rule allows it/,
    );
    await machine.run([
      'calico-cnm',
      'profile',
      'web',
      'rule',
      'add',
      'inbound',
      'allow',
      'tcp',
      'from',
      'tag',
      'other',
      'to',
      'ports',
      '8080',
    ]);
    assert.equal((await once('other', address)).stdout, 'hello\n');
  });

  test('run again it changes nothing', async () => {
    const processes = () =>
      machine.run([
        'sh',
        '-c',
        'cat /run/calico/supervise.pid; readlink /usr/local/lib/calico-cnm/current',
      ]);
    const before = await processes();
    assert.match(await install(), /nothing was changed/);
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
    await docker('rm', '-f', 'app');
    await docker('network', 'rm', 'web', 'other');
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
  }
}
