import { readFileSync } from 'node:fs';
import assert from 'node:assert/strict';
import type { Host } from './host.ts';
import { built, checkout } from './built.ts';
import { NetworkLab } from './network-lab.ts';
import type { CommandResult } from './process.ts';

/** The reference of the plugin in the tests. */
export const pluginName = 'calico-cnm:test';

const command = '/var/lib/calico/bin/calico-cnm';

/** A host with the managed plugin and no daemon. */
export class ManagedPluginLab extends NetworkLab {
  constructor(host: Host) {
    super(host, undefined, {});
  }

  /** Starts Docker with the flags. */
  async start(...dockerFlags: readonly string[]): Promise<void> {
    // As under systemd: later mounts by Docker are also visible in the plugin.
    await this.host.run(['mount', '--make-rshared', '/']);
    await this.host.startDocker(...dockerFlags);
  }

  /** Creates the plugin of the version under a reference, disabled; the manifest can be changed before. */
  async create(
    version: string,
    reference: string = pluginName,
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
    await this.docker('plugin', 'create', reference, folder);
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
    assert.ok(await this.eventually(isWell), await this.whatIsWrong());
  }

  async whatIsWrong(): Promise<string> {
    const { stdout, stderr } = await this.calicoResult('status');
    return `${stdout}${stderr}${this.host.dockerLog().split('\n').slice(-20).join('\n')}`;
  }

  /** The id of the plugin's process on the host. */
  async processId(): Promise<string> {
    const lock = await this.host.run(['cat', '/run/calico/serving.lock']);
    return /process (\d+)/.exec(lock)?.[1] ?? '';
  }

  /** Kills the plugin's process, as a crash does. */
  async killProcess(): Promise<void> {
    const lock = await this.host.run(['cat', '/run/calico/serving.lock']);
    await this.host.run(['kill', '-9', await this.processId()]);
    const isGone = async () => (await this.host.run(['cat', '/run/calico/serving.lock'])) !== lock;
    assert.ok(await this.eventually(isGone), 'Docker starts the plugin again');
  }

  /** Checks that a stream of 100 packets a second between the two containers of a network has no loss. */
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
    // The last packet may be in flight when the stream is ended.
    assert.ok(Number(sent) - Number(arrived) <= 1, stream.output());
  }

  /** Checks that a container starts, reaches the server of its network, and leaves nothing. */
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
    assert.ok(await this.eventually(problems), 'no address leaks');
  }
}

/** Returns the folder of the managed plugin, under the same path in every machine; building it takes half a minute. */
export function managedPluginFolder(): Promise<string> {
  const made = ['plugin/*.ts', 'plugin/build', 'plugin/packages*', 'config.json', 'package.json'];
  return built('plugin', [...made, 'tsconfig.json'], (folder) => [
    `${checkout}/plugin/build`,
    folder,
  ]);
}
