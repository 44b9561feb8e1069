import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startHost, type Host } from '../lab/host.ts';
import {
  assertUntouched,
  breakDaemon,
  copyCheckout,
  dumpHost,
  standInForNpm,
  type HostDump,
} from '../lab/installation.ts';
import { checkout } from '../lab/built.ts';
import { pingStream } from '../lab/ping-stream.ts';

const source = '/root/a checkout/calico-cnm';
const library = '/usr/local/lib/calico-cnm';

/** The whole life of an installation, on a host that has Docker; the libraries are not downloaded here. */
describe('install, upgrade, uninstall', { timeout: 600_000 }, () => {
  let host: Host;
  let untouched: HostDump;
  before(async () => {
    host = await startHost({ engine: '28.5', uplink: true, bare: true });
    await host.startDocker();
    await copyCheckout(host, source);
    await standInForNpm(host);
    untouched = await dumpHost(host);
  });
  after(async () => {
    await host[Symbol.asyncDispose]();
  });

  const install = (env: Readonly<Record<string, string>> = {}) =>
    host.exec([`${source}/plugin/install`], { timeoutMs: 120_000, env });
  const installed = async () => {
    const { status, stdout, stderr } = await install();
    assert.equal(status, 0, stdout + stderr);
    return stdout;
  };
  const uninstall = (...options: readonly string[]) =>
    host.exec([`${source}/plugin/uninstall`, ...options], { timeoutMs: 120_000 });
  const current = () => host.run(['readlink', `${library}/current`]);
  const releases = async () =>
    (await host.run(['ls', `${library}/releases`])).split('\n').filter((name) => name !== '');
  const changeSource = (file: string, line: string) =>
    host.run(['sh', '-c', 'printf "%s\\n" "$1" >>"$0"', `${source}/${file}`, line]);
  const network = (name: string) =>
    host.docker('network', 'create', '-d', 'calico', '--ipam-driver', 'calico-ipam', name);
  const client = (name: string, ...options: readonly string[]) =>
    host.docker('run', '-d', '--name', name, ...options, 'calico-test');
  const addressOf = (name: string) =>
    host.docker('inspect', '-f', '{{.NetworkSettings.Networks.web.IPAddress}}', name);
  const daemons = () =>
    host.run([
      'sh',
      '-c',
      "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -q '[d]ist/main.js run\\|[s]upervise keep' && basename $p; done; true",
    ]);

  test('rootless Docker is refused with one sentence, and nothing is installed', async () => {
    const fake = '/tmp/rootless/docker';
    await host.run([
      'sh',
      '-c',
      `mkdir -p /tmp/rootless && printf '#!/bin/sh\\necho "[name=seccomp name=rootless]"\\n' >${fake} && chmod 755 ${fake}`,
    ]);
    const { status, stderr } = await install({ PATH: `/tmp/rootless:/usr/sbin:/usr/bin` });
    assert.equal(status, 1);
    assert.match(stderr, /^calico-cnm: this Docker is rootless; .*\n$/);
    await assertUntouched(host, untouched);
  });

  test('--help says what a command does, and an argument that is not known does nothing', async () => {
    for (const name of ['install', 'uninstall']) {
      const command = `${source}/plugin/${name}`;
      const help = await host.exec([command, '--help']);
      assert.equal(help.status, 0);
      assert.match(help.stdout, new RegExp(`^usage: plugin/${name}`));
      const unknown = await host.exec([command, '--frobnicate']);
      assert.equal(unknown.status, 2);
      assert.match(unknown.stderr, /unknown argument --frobnicate\nusage: /);
    }
    await assertUntouched(host, untouched);
  });

  test('a first installation whose daemon does not start is removed again', async () => {
    const mend = await breakDaemon(host, source);
    const { status, stderr } = await install();
    assert.equal(status, 1);
    assert.match(stderr, /the daemon is degraded; calico-cnm was removed again; see the log/);
    assert.equal(await daemons(), '');
    const left = await host.run([
      'sh',
      '-c',
      `ls -d ${library} /usr/local/bin/* 2>/dev/null; true`,
    ]);
    assert.doesNotMatch(left, /calico-cnm/);
    await mend();
  });

  test('it installs from a path with a space', async () => {
    assert.match(await installed(), /is installed and running/);
    await network('web');
    await client('one', '--net', 'web');
    await client('two', '--net', 'web');
  });

  test('an upgrade loses no packet, between containers and to the host', async () => {
    const streams = [
      await pingStream(host, 'one', await addressOf('two')),
      await pingStream(host, 'two', '203.0.113.2'),
    ];
    const before = await current();
    await host.run(['mkdir', `${library}/releases/older`]);
    await changeSource('src/version.ts', '// newer');
    await installed();
    assert.notEqual(await current(), before);
    assert.deepEqual(await Promise.all(streams.map((stream) => stream.lost())), [0, 0]);
    const kept = [before, await current()].map((release) => release.replace('releases/', ''));
    assert.deepEqual(await releases(), kept.toSorted(), 'one old release is kept');
  });

  test('run again from the same checkout it changes nothing', async () => {
    const before = [await daemons(), await current()];
    assert.match(await installed(), /already installed and running/);
    assert.deepEqual([await daemons(), await current()], before);
  });

  test('a build that fails leaves all as it was', async () => {
    const before = [await daemons(), await current(), await releases()];
    await changeSource('src/version.ts', 'export const broken =;');
    const { status, stderr } = await install();
    assert.equal(status, 1);
    assert.match(stderr, /build failed/);
    assert.deepEqual([await daemons(), await current(), await releases()], before);
    await host.run(['sed', '-i', '$d', `${source}/src/version.ts`]);
  });

  test('a new daemon that does not come up gives way to the one before', async () => {
    const before = await current();
    const stream = await pingStream(host, 'one', await addressOf('two'));
    // It gets as far as to bring the datastore to a format of its own.
    const format = `${source}/src/datastore/sqlite-format.ts`;
    await host.run(['cp', format, '/tmp']);
    await host.run(['sed', '-i', "s/^];$/  'SELECT 1;',\\n];/", format]);
    const mend = await breakDaemon(host, source);
    const { status, stderr } = await install();
    assert.equal(status, 1);
    assert.match(stderr, /the new version is degraded; rolled back to the previous version/);
    assert.equal(await current(), before);
    await host.run(['cp', '/tmp/sqlite-format.ts', format]);
    await mend();
    assert.equal((await host.run(['sh', '-c', 'ls /var/lib/calico'])).includes('backup-'), true);
    assert.match(await host.run(['calico-cnm', 'status']), /: healthy$/m);
    assert.equal(await stream.lost(), 0);
  });

  test('an older program refuses a newer datastore before anything is switched', async () => {
    const setVersion = (version: number) =>
      host.run([
        `${checkout}/node_modules/.bin/node`,
        '-e',
        `const { DatabaseSync } = require('node:sqlite'); const d = new DatabaseSync('/var/lib/calico/calico.db', { timeout: 2000 }); const old = d.prepare('PRAGMA user_version').get().user_version; d.exec('PRAGMA user_version = ${version}'); console.log(old)`,
      ]);
    const before = [await daemons(), await current()];
    const version = Number(await setVersion(99));
    await changeSource('src/version.ts', '// older');
    const { status, stderr } = await install();
    await setVersion(version);
    assert.equal(status, 1);
    assert.match(stderr, /of a newer calico-cnm.*nothing was changed\n$/);
    assert.deepEqual([await daemons(), await current()], before);
    await host.run(['sed', '-i', '$d', `${source}/src/version.ts`]);
  });

  test('uninstall names the networks that are there, and refuses', async () => {
    await network('my net');
    await client('spaced', '--net', 'my net');
    await host.docker('create', '--name', 'made', '--net', 'my net', 'calico-test');
    const { status, stderr } = await uninstall();
    assert.equal(status, 1);
    assert.match(stderr, /these networks use calico: ("my net" web|web "my net")\n/);
    assert.match(await host.run(['calico-cnm', 'status']), /: healthy$/m);
  });

  test('forced, it removes them with containers running, and the host is as before', async () => {
    const { status, stdout, stderr } = await uninstall('--force', '--purge');
    assert.equal(status, 0, stdout + stderr);
    assert.equal((await host.docker('ps', '-q')).split('\n').length, 3, 'containers go on');
    assert.match(
      stdout,
      /removed network "my net"\n.*still running without this network: spaced \(.*\n.*cannot start without this network: made \(/,
    );
    assert.match(
      stdout,
      /removed network web\n.*still running without this network: (one two|two one) \(/,
    );
    assert.match(stdout, /calico-cnm is removed\nleft on this host:\n.*docker\.io, iptables, npm/);
    assert.doesNotMatch(stdout, /\/var\/lib\/calico/);
    // It would wait for a minute if an interface had been taken from it behind Docker's back.
    await host.docker('rm', '-f', 'spaced', 'made');
    assert.equal(await host.docker('network', 'ls', '-q', '-f', 'driver=calico'), '');
    await assertUntouched(host, untouched);
  });

  test('Docker does not look for what is gone when it starts again', async () => {
    await host.stopDocker();
    await host.startDocker();
    assert.doesNotMatch(host.dockerLog(), /retrying in|Unable to connect to plugin/);
  });

  test('with Docker stopped and the daemon dead the networks are known, and removed when forced', async () => {
    await installed();
    await network('my net');
    await host.stopDocker();
    await host.run(['sh', '-c', `kill -9 ${(await daemons()).replaceAll('\n', ' ')}`]);
    const refused = await uninstall();
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /these networks use calico: "my net"\n/);
    const kept = await uninstall('--force');
    assert.equal(kept.status, 0, kept.stdout + kept.stderr);
    assert.match(
      kept.stdout,
      /left on this host:\n  \/etc\/calico \(.*--purge.*\n  \/var\/lib\/calico \(/,
    );
    const { status, stdout, stderr } = await uninstall('--purge');
    assert.equal(status, 0, stdout + stderr);
    await host.startDocker();
    assert.equal(await host.docker('network', 'ls', '-q', '-f', 'driver=calico'), '');
    await assertUntouched(host, untouched);
    assert.doesNotMatch(host.dockerLog(), /retrying in|Unable to connect to plugin/);
  });
});
