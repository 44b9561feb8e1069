import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { checkout } from '../lab/built.ts';
import { startHost } from '../lab/host.ts';
import { ManagedPluginLab } from '../lab/managed-plugin.ts';
import { Page } from '../lab/page.ts';
import { outputOf, ownEnvironment } from '../lab/process.ts';
import { startRegistry, type Registry } from '../lab/registry.ts';
import { words } from '../lab/words.ts';
import { unlessLong } from '../lab/long.ts';

const skip = unlessLong();
const registryAddress = '127.0.0.1:5000';
const dockerLog = '/tmp/dockerd.log';

/** Every command block of the page, in its order. */
describe('docs/install.md', { timeout: 1_200_000, skip }, () => {
  let lab: ManagedPluginLab;
  let registry: Registry;
  const page = new Page('docs/install.md', (text) =>
    text
      .replaceAll('registry.example:5000', registryAddress)
      .replaceAll('journalctl -u docker', `cat ${dockerLog}`),
  );
  before(async () => {
    const host = await startHost({ engine: '28.5', uplink: true, bare: true });
    lab = new ManagedPluginLab(host);
    registry = await startRegistry(host.machine);
    await lab.start('--live-restore');
  });
  after(async () => {
    await lab[Symbol.asyncDispose]();
    await registry[Symbol.asyncDispose]();
  });

  const onHost = (command: string) =>
    lab.host.run(['sh', '-ec', `cd ${checkout}; ${command}`], { timeoutMs: 180_000 });
  const section = (name: string) => page.run(name, onHost);
  /** A newer content, under which Docker can keep it beside the first one. */
  const unpackNewer = () =>
    lab.host.run([
      'sh',
      '-ec',
      'echo >>/tmp/calico-cnm-plugin_0.1.0_amd64/rootfs/app/dist/main.js',
    ]);

  test('Release', async () => {
    await page.run('Release', (command) =>
      outputOf(['sh', '-ec', `cd ${checkout}; ${command}`], {
        timeoutMs: 600_000,
        env: ownEnvironment(),
      }),
    );
  });

  test('The Debian package', async () => {
    let daemon: ReturnType<typeof lab.host.spawn> | undefined;
    await page.run('The Debian package', async (command) => {
      if (command === 'calico-cnm status') {
        // What systemd does.
        daemon = lab.host.spawn(['/usr/bin/calico-cnm', 'run']);
        const isWell = async () => (await lab.host.exec(words`calico-cnm status`)).status === 0;
        assert.ok(await lab.eventually(isWell), daemon.output());
      }
      return onHost(command);
    });
    await daemon?.end('SIGTERM');
    await section('The Debian package');
    assert.equal((await lab.host.exec(words`test -e /usr/bin/calico-cnm`)).status, 1);
  });

  test('The managed plugin', async () => {
    await section('The managed plugin');
    await lab.isWellAgain();
    await lab.host.run(['sh', '-c', `cat >${dockerLog}`], { input: lab.host.dockerLog() });
    await page.run('The managed plugin', async (command) => {
      const log = await onHost(command);
      assert.match(log, /daemon ready/);
      for (const line of log.trim().split('\n')) assert.match(line, / plugin=[0-9a-f]{64}$/);
      return log;
    });
  });

  test('Upgrade', async () => {
    await unpackNewer();
    await section('Upgrade');
    await lab.isWellAgain();
  });

  test('Uninstall', async () => {
    await section('Uninstall');
    assert.equal(await lab.docker(...words`plugin ls -q`), '');
  });

  test('From a registry', async () => {
    await section('From a registry');
    await lab.docker(...words`plugin rm ${registryAddress}/calico-cnm:0.1`);
    await section('From a registry');
    await lab.isWellAgain();
    await unpackNewer();
    const newer = `${registryAddress}/calico-cnm:0.2`;
    await lab.docker(...words`plugin create ${newer} /tmp/calico-cnm-plugin_0.1.0_amd64`);
    await lab.docker(...words`plugin push ${newer}`);
    await lab.docker(...words`plugin rm ${newer}`);
    await section('From a registry');
    await lab.isWellAgain();
  });

  test('every block of the page was run', () => page.assertAllWasRun());
});
