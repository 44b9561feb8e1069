import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { debianPackages, leftOfPackage } from '../lab/debian-package.ts';
import { cacheFolder } from '../lab/engine.ts';
import { startSystemdLab, type SystemdLab } from '../lab/systemd.ts';
import { words } from '../lab/words.ts';
import { unlessLong } from '../lab/long.ts';

const unit = 'calico-cnm';
const settings = '/etc/calico/calico-cnm.env';

describe('the Debian package under systemd', { timeout: 600_000, skip: unlessLong() }, () => {
  let disk: string;
  let lab: SystemdLab;
  before(async () => {
    const packages = await debianPackages();
    mkdirSync(cacheFolder(), { recursive: true });
    disk = mkdtempSync(`${cacheFolder()}/disk-`);
    lab = await startSystemdLab(disk);
    for (const name of ['present', 'newer'] as const) {
      copyFileSync(packages[name], lab.host.path(`/root/${name}.deb`));
    }
    await lab.host.run(['sh', '-c', 'echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/lab']);
  });
  after(async () => {
    await lab[Symbol.asyncDispose]();
    rmSync(disk, { recursive: true, force: true });
  });

  const dpkg = (...argv: readonly string[]) => lab.host.exec(['dpkg', ...argv]);
  const succeeds = async (...argv: readonly string[]) => {
    const { status, stderr } = await dpkg(...argv);
    assert.equal(status, 0, stderr);
  };
  const isEnabled = async () => (await lab.host.exec(words`systemctl is-enabled ${unit}`)).stdout;
  /** What firewalld knows. */
  const zones = () => lab.host.run(words`firewall-cmd --get-zones`);
  const again = words`--restart always --stop-signal KILL`;

  /** The daemon listened before dockerd was started, which then did not wait for it. */
  const listenedBeforeDocker = async () => {
    assert.equal(await lab.state(unit), 'active');
    assert.equal(await lab.state('docker'), 'active');
    const [listens, started] = [
      await lab.moment(unit, 'ActiveEnter'),
      await lab.moment('docker', 'InactiveExit'),
    ];
    assert.ok(listens <= started, `it listens at ${listens}, dockerd is started at ${started}`);
    const waited = (await lab.journal(0, '-udocker')).filter((line) => /retrying in/.test(line));
    assert.deepEqual(waited, []);
  };

  /** The server may be reached from its network, and not from the other one. */
  const policyHolds = async () => {
    assert.ok(await lab.eventually(() => lab.reaches('inside', 'app')), 'its network gets in');
    const dropped = await lab.dropped('app');
    assert.equal(await lab.reaches('outside', await lab.address('app', 'web')), false);
    assert.ok((await lab.dropped('app')) > dropped, 'the other network is dropped');
  };

  test('Docker is that of its own unit, with the control groups of systemd', async () => {
    assert.equal(await lab.systemctl('is-system-running'), 'running');
    assert.equal(
      await lab.docker('info', '-f', '{{.CgroupDriver}} {{.CgroupVersion}}'),
      'systemd 2',
    );
    assert.equal(
      await lab.property('docker', 'FragmentPath'),
      '/lib/systemd/system/docker.service',
    );
  });

  test('installed, its unit is enabled and runs, and Docker uses it', async () => {
    await succeeds('-i', '/root/present.deb');
    assert.equal(await isEnabled(), 'enabled\n');
    assert.equal(await lab.state(unit), 'active');
    await lab.isWell();
    assert.match((await lab.journal(0, `-u${unit}`)).join('\n'), /daemon ready/);
    const verified = await lab.host.exec(words`systemd-analyze verify --man=no ${unit}.service`);
    assert.doesNotMatch(verified.stderr, /calico-cnm/);
    for (const name of ['web', 'other']) await lab.network(name);
    await lab.server('app', ...words`--net web ${again}`);
    await lab.client('inside', ...words`--net web ${again}`);
    await lab.client('outside', ...words`--net other ${again}`);
    await policyHolds();
  });

  test('installed again it is as before', async () => {
    await lab.losesNothing(() => succeeds('-i', '/root/present.deb'));
    assert.equal(await isEnabled(), 'enabled\n');
  });

  test('killed, it is started again, and no packet is lost', async () => {
    const before = await lab.mainProcess();
    await lab.losesNothing(async () => {
      await lab.systemctl('kill', '-s', 'KILL', unit);
      const runsAgain = async () =>
        (await lab.state(unit)) === 'active' && (await lab.mainProcess()) !== before;
      assert.ok(await lab.eventually(runsAgain));
    });
  });

  test('restarted, no packet is lost', async () => {
    await lab.losesNothing(() => lab.systemctl('restart', unit));
    await policyHolds();
  });

  test('Docker restarted under --live-restore, no packet is lost', async () => {
    const pids = () => lab.docker('inspect', '-f', '{{.State.Pid}}', 'app', 'inside', 'outside');
    const liveRestore = async (value: boolean) => {
      const input = JSON.stringify({ 'live-restore': value });
      await lab.host.run(['sh', '-c', 'cat >/etc/docker/daemon.json'], { input });
      await lab.systemctl('reload', 'docker');
      const isSet = async () =>
        (await lab.docker('info', '-f', '{{.LiveRestoreEnabled}}')) === String(value);
      assert.ok(await lab.eventually(isSet));
    };
    const before = await pids();
    await liveRestore(true);
    await lab.losesNothing(() => lab.systemctl('restart', 'docker'));
    assert.equal(await pids(), before);
    await liveRestore(false);
    await policyHolds();
  });

  test('it does not wake a Docker that was stopped', async () => {
    await lab.systemctl('stop', 'docker');
    assert.equal(await lab.state('docker.socket'), 'active');
    await lab.systemctl('restart', unit);
    await lab.host.exec(words`calico-cnm status`);
    // What it does again and again, it does within this time.
    await sleep(3000);
    assert.equal(await lab.state('docker'), 'inactive');
  });

  test('who wakes Docker by its socket wakes it before', async () => {
    await lab.systemctl('stop', unit);
    assert.equal(await lab.state(unit), 'inactive');
    await lab.docker('ps');
    await listenedBeforeDocker();
    await policyHolds();
  });

  test('a newer one takes its place, and no packet is lost', async () => {
    const before = await lab.mainProcess();
    await lab.losesNothing(() => succeeds('-i', '/root/newer.deb'));
    assert.notEqual(await lab.mainProcess(), before);
    assert.match(await lab.calico('version'), /^calico-cnm 99\.0/);
    await policyHolds();
  });

  test('after a reboot it listens before Docker starts, and policy is in force', async () => {
    lab = await lab.reboot();
    assert.equal(await lab.systemctl('is-system-running'), 'running');
    await listenedBeforeDocker();
    await policyHolds();
    await lab.isWell();
  });

  test('before the reboot it was stopped after Docker', async () => {
    const lines = await lab.journal(-1, '_PID=1');
    const last = (what: RegExp) => lines.findLastIndex((line) => what.test(line));
    const [docker, stopping] = [last(/^Stopped docker\.service/), last(/^Stopping calico-cnm\./)];
    assert.ok(docker >= 0 && stopping > docker, `lines ${docker} and ${stopping}`);
  });

  test('beside firewalld it comes after that at boot, and an upgrade loses no packet', async () => {
    await lab.systemctl('enable', '--quiet', 'firewalld');
    lab = await lab.reboot();
    assert.equal(await lab.systemctl('is-system-running'), 'running');
    const [firewall, started] = [
      await lab.moment('firewalld', 'ActiveEnter'),
      await lab.moment(unit, 'InactiveExit'),
    ];
    assert.ok(firewall <= started, `firewalld is there at ${firewall}, it starts at ${started}`);
    await listenedBeforeDocker();
    await policyHolds();
    await lab.losesNothing(() => succeeds('-i', '/root/newer.deb'));
  });

  test('with a setting that makes no sense dpkg ends with 1 and one line; the one before runs on', async () => {
    const before = await lab.mainProcess();
    await lab.host.run(['sh', '-c', `echo CALICO_LOG_LEVEL=loud >>${settings}`]);
    const { status, stderr } = await dpkg('-i', '/root/newer.deb');
    assert.equal(status, 1);
    assert.match(stderr, /^calico-cnm: [^\n]*CALICO_LOG_LEVEL[^\n]*$/m);
    assert.equal(await lab.mainProcess(), before);
    await policyHolds();
  });

  test('nor does that keep anything else from starting at boot', async () => {
    // Docker waits 15 s for each network of a plugin that does not listen, and for each container that it starts.
    await lab.docker(...words`update --restart no app inside`);
    await lab.docker(...words`rm -f outside`);
    await lab.docker(...words`network rm other`);
    lab = await lab.reboot();
    for (const other of ['docker', 'ssh', 'multi-user.target']) {
      assert.equal(await lab.state(other), 'active', other);
    }
    assert.notEqual(await lab.state(unit), 'active');
    assert.equal(await lab.property(unit, 'ExecMainStatus'), '78');
    // A wrong setting does not get better by trying again.
    assert.equal(await lab.property(unit, 'NRestarts'), '0');
    const [said = '', ...others] = await lab.journal(0, `_SYSTEMD_UNIT=${unit}.service`);
    assert.match(said, /^calico-cnm: .*CALICO_LOG_LEVEL/);
    assert.deepEqual(others, []);
  });

  test('when the setting is corrected, dpkg configures the package and starts the daemon', async () => {
    await lab.host.run(['sed', '-i', '$d', settings]);
    await succeeds('--configure', 'calico-cnm');
    await lab.isWell();
    await lab.docker('start', 'app', 'inside');
    assert.ok(await lab.eventually(() => lab.reaches('inside', 'app')));
  });

  test('where another one serves the host it does not try again', async () => {
    await lab.systemctl('stop', unit);
    const other = lab.host.spawn(['calico-cnm', 'run']);
    await lab.isWell();
    assert.notEqual((await lab.host.exec(words`systemctl start ${unit}`)).status, 0);
    assert.equal(await lab.state(unit), 'failed');
    assert.equal(await lab.property(unit, 'ExecMainStatus'), '69');
    await other.end('SIGTERM');
    await lab.systemctl('start', unit);
    await lab.isWell();
  });

  test('it does not go while networks use it, and says which', async () => {
    const { status, stderr } = await dpkg('-r', 'calico-cnm');
    assert.equal(status, 1);
    assert.match(stderr, /^calico-cnm: these networks use it: web /m);
    assert.equal(await lab.state(unit), 'active');
    assert.ok(await lab.reaches('inside', 'app'));
  });

  test('removed, its unit is stopped and gone, and only settings and data are left', async () => {
    await lab.clear();
    await succeeds('-r', 'calico-cnm');
    assert.equal(await lab.state(unit), 'inactive');
    assert.equal(await lab.property(unit, 'LoadState'), 'not-found');
    assert.deepEqual(await leftOfPackage(lab.host), [
      '/etc/calico',
      settings,
      '/var/lib/calico/calico.db',
      '/var/lib/calico/last-addresses.json',
      '/var/lib/calico/nodename',
    ]);
    assert.equal(await lab.state('docker'), 'active');
    assert.doesNotMatch(await zones(), /calico/);
  });

  test('installed again it knows its data, and purged nothing is left', async () => {
    await succeeds('-i', '/root/present.deb');
    assert.equal(await isEnabled(), 'enabled\n');
    await lab.isWell();
    assert.match(await zones(), /calico/);
    await succeeds('-P', 'calico-cnm');
    assert.deepEqual(await leftOfPackage(lab.host), []);
    await lab.systemctl('restart', 'docker');
    assert.deepEqual(await lab.systemctl('--failed', '--plain', '--no-legend'), '');
  });
});
