import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { builtProgram, checkout } from '../lab/built.ts';
import { unlessLong } from '../lab/long.ts';
import { startProxy, type Proxy } from '../lab/proxy.ts';
import { startSystemdLab, type SystemdLab } from '../lab/systemd.ts';
import { words } from '../lab/words.ts';

/** `cluster init` installs Debian's etcd itself, on a host with systemd where it is missing. */
describe('the packages of cluster init', { timeout: 600_000, skip: unlessLong() }, () => {
  let lab: SystemdLab;
  let proxy: Proxy;
  before(async () => {
    lab = await startSystemdLab();
    proxy = await startProxy(lab.host.machine);
    const program = `#!/bin/sh\nexec ${checkout}/node_modules/.bin/node ${await builtProgram()}/main.js "$@"\n`;
    const file = '/usr/local/bin/calico-cnm';
    await lab.host.run(['sh', '-c', `cat >${file}; chmod 755 ${file}`], { input: program });
    await lab.host.run(words`systemd-run -q --unit=calico-cnm ${file} run`);
    await lab.isWell();
  });
  after(async () => {
    await proxy?.[Symbol.asyncDispose]();
    await lab?.[Symbol.asyncDispose]();
  });

  const init = (env: Readonly<Record<string, string>> = {}) =>
    lab.host.exec(words`calico-cnm cluster init`, { env, timeoutMs: 300_000 });
  const refused = async (why: RegExp, env?: Readonly<Record<string, string>>) => {
    const { status, stderr } = await init(env);
    assert.equal(status, 1, stderr);
    assert.match(stderr.trimEnd().split('\n').at(-1) ?? '', why);
    const { stdout } = await lab.host.exec(words`systemctl is-enabled etcd`);
    assert.equal(stdout.trim(), '', 'the unit of Debian is not masked any more');
    assert.match((await lab.host.exec(words`calico-cnm cluster status`)).stderr, /no cluster/);
    await lab.isWell();
  };

  test('without a network, and with a full disk, one sentence says so', async () => {
    await refused(
      /^calico-cnm: cannot install etcd: (Failed to fetch|Could not|Temporary).*; check network and proxy, and run/,
    );
    // The lists are brought, and the packages have no room.
    await lab.host.run(words`mount -t tmpfs -o size=64k tmpfs /var/cache/apt/archives`);
    await refused(
      /^calico-cnm: cannot install etcd: .*(space|No space).*; make room, and run/i,
      proxy.environment,
    );
    await lab.host.run(words`umount /var/cache/apt/archives`);
  });

  test('it waits for the lock of apt, and the etcd of Debian does not start', async () => {
    const hold = `use Fcntl; $| = 1; open my $file, '>', '/var/lib/dpkg/lock-frontend';
      my $lock = pack('ssx4qqix4', F_WRLCK, 0, 0, 0, 0);
      fcntl($file, F_SETLK, $lock) or die $!; print 'held'; sleep 600`;
    const holder = lab.host.spawn(['perl', '-e', hold]);
    while (!holder.output().endsWith('held')) await sleep(20);
    const running = lab.host.spawn(words`calico-cnm cluster init`, proxy.environment);
    const waits = /^waiting for the apt lock \(\/var\/lib\/dpkg\/lock-frontend.*\)$/m;
    while (!waits.test(running.output())) {
      assert.equal(running.status, undefined, running.output());
      await sleep(50);
    }
    await holder.end('SIGKILL');
    assert.equal(await running.ended(300_000), 0, running.output());
    assert.match(running.output(), /^calico-cnm cluster join 203\.0\.113\.2:2381 /m);
    assert.equal((await lab.state('etcd')).trim(), 'inactive');
    const enabled = await lab.host.exec(words`systemctl is-enabled etcd`);
    assert.equal(enabled.stdout.trim(), 'disabled');
    assert.equal((await lab.state('calico-cnm-etcd')).trim(), 'active');
    const began = await lab.journal(0, '-u', 'etcd');
    assert.deepEqual(began, [], 'it has never started');
    assert.match((await lab.host.exec(words`calico-cnm cluster status`)).stdout, /: healthy/);
  });
});
