import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import assert from 'node:assert/strict';
import type { Host } from './host.ts';
import { checkout } from './built.ts';
import { NetworkLab } from './network-lab.ts';
import { outputOf, type CommandResult } from './process.ts';

/** The reference under which the tests know the plugin. */
export const pluginName = 'calico-cnm:test';

const command = '/var/lib/calico/bin/calico-cnm';

/** A host on which the managed plugin, and no daemon, serves Docker. */
export class ManagedPluginLab extends NetworkLab {
  constructor(host: Host) {
    super(host, undefined, {});
  }

  /** Starts Docker with the flags and makes the plugin; it is not enabled yet. */
  async start(...dockerFlags: readonly string[]): Promise<void> {
    // As systemd has it: what Docker mounts later is seen in the plugin as well.
    await this.host.run(['mount', '--make-rshared', '/']);
    await this.host.startDocker(...dockerFlags);
    await this.create('test');
  }

  /** Makes the plugin of the version; the manifest may be changed before. */
  async create(
    version: string,
    change: (manifest: string) => string = (same) => same,
  ): Promise<void> {
    const folder = `/tmp/plugin-${version}`;
    await this.host.run(['cp', '-a', await managedPluginFolder(), folder]);
    const setVersion = `sed -i 's/^var version = ".*"/var version = "${version}"/'`;
    await this.host.run([
      'sh',
      '-c',
      `${setVersion} $(find ${folder}/rootfs/app/dist -name '*.js')`,
    ]);
    const manifest = change(readFileSync(`${checkout}/config.json`, 'utf8'));
    await this.host.run(['sh', '-c', `cat >${folder}/config.json`], { input: manifest });
    await this.docker('plugin', 'create', pluginName, folder);
    await this.host.run(['rm', '-rf', folder]);
  }

  /** The plugin's own command line. */
  override calico(...argv: readonly string[]): Promise<string> {
    return this.host.run([command, ...argv]);
  }

  override calicoResult(...argv: readonly string[]): Promise<CommandResult> {
    return this.host.exec([command, ...argv]);
  }

  async isWellAgain(): Promise<void> {
    const isWell = async () => (await this.calicoResult('status')).status === 0;
    assert.ok(await this.eventually(isWell, 30_000), await this.whatIsWrong());
  }

  async whatIsWrong(): Promise<string> {
    const { stdout, stderr } = await this.calicoResult('status');
    return `${stdout}${stderr}${this.host.dockerLog().split('\n').slice(-20).join('\n')}`;
  }

  /** Kills the plugin's process, as a crash does. */
  async killProcess(): Promise<void> {
    const lock = await this.host.run(['cat', '/run/calico/serving.lock']);
    const pid = /process (\d+)/.exec(lock)?.[1] ?? '';
    await this.host.run(['kill', '-9', pid]);
    const isGone = async () => (await this.host.run(['cat', '/run/calico/serving.lock'])) !== lock;
    assert.ok(await this.eventually(isGone, 30_000), 'Docker starts the plugin again');
  }

  /** A stream of 100 packets a second between the two containers of a network arrives whole. */
  async losesNothing(network: string, meanwhile: () => Promise<void>): Promise<void> {
    const pid = await this.docker('inspect', '-f', '{{.State.Pid}}', `${network}client`);
    const address = await this.address(`${network}app`, network);
    const enter = ['nsenter', '--target', pid, '--net'];
    const stream = this.host.spawn([...enter, 'ping', '-q', '-i', '0.01', '-W', '2', address]);
    await meanwhile();
    stream.signal('SIGINT');
    await stream.exited;
    const [, sent, arrived] =
      /(\d+) packets transmitted, (\d+) received/.exec(stream.output()) ?? [];
    assert.ok(Number(sent) >= 20, `the stream ran: ${stream.output()}`);
    // The last one may be on its way when the stream is ended.
    assert.ok(Number(sent) - Number(arrived) <= 1, stream.output());
  }

  /** A container starts, reaches the server of its network, and leaves nothing. */
  async startsAnother(network: string): Promise<void> {
    const fetch = `timeout 5 wget -qO- ${network}app:8080`;
    const got = await this.docker(
      'run',
      '--rm',
      '--net',
      network,
      'calico-test',
      'sh',
      '-c',
      fetch,
    );
    assert.equal(got, 'hello');
    const problems = async () =>
      /^no problems found$/m.test((await this.host.exec(['calico-cnm', 'ipam', 'check'])).stdout);
    assert.ok(await this.eventually(problems, 10_000), 'no address leaks');
  }
}

/**
 * The folder of the managed plugin, under the same path in every machine. It is built (plugin/build, half a minute)
 * unless it was built of the same sources already.
 */
export async function managedPluginFolder(): Promise<string> {
  const folder = `${checkout}/build/plugin`;
  const environment = { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '/root' };
  const listed = await outputOf(
    [
      'sh',
      '-c',
      `cd ${checkout} && sha256sum $(find ${sources} -type f ! -name '*.test.ts' | sort)`,
    ],
    { env: environment },
  );
  const digest = createHash('sha256').update(listed).digest('hex');
  const stamp = `${checkout}/build/plugin.sources`;
  if (existsSync(stamp) && existsSync(folder) && readFileSync(stamp, 'utf8') === digest) {
    return folder;
  }
  await outputOf([`${checkout}/plugin/build`, folder], { timeoutMs: 600_000, env: environment });
  writeFileSync(stamp, digest);
  return folder;
}

const sources = 'src config.json package.json package-lock.json tsconfig.json plugin';
