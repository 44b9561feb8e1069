import assert from 'node:assert/strict';
import { startHost, type Host } from './host.ts';
import { ensureTestImage } from './image.ts';
import { uplinkAddresses } from './machine.ts';
import { NetworkLab } from './network-lab.ts';
import { pingStream } from './ping-stream.ts';
import { words } from './words.ts';

/** The exit status of a first process that requests a reboot (reboot(2), in a process namespace). */
const rebooted = 129;

/**
 * A host whose first process is systemd, by which Docker runs as Debian has it. calico-cnm is not there until a
 * test installs it. With a folder that keeps its disk it can start again.
 */
export class SystemdLab extends NetworkLab {
  readonly #disk: string | undefined;

  constructor(host: Host, disk: string | undefined) {
    super(host, undefined, {});
    this.#disk = disk;
  }

  /** Runs systemctl with the arguments; throws its output if it fails. */
  systemctl(...argv: readonly string[]): Promise<string> {
    return this.host.run(['systemctl', ...argv]);
  }

  /** Returns a property of a unit. */
  property(unit: string, name: string): Promise<string> {
    return this.systemctl('show', unit, '--value', '-p', name);
  }

  /** Returns the state of a unit, such as `active` or `failed`. */
  state(unit: string): Promise<string> {
    return this.property(unit, 'ActiveState');
  }

  /** When something happened to a unit the last time, in microseconds; the property's name without its ending. */
  async moment(unit: string, name: string): Promise<number> {
    const moment = Number(await this.property(unit, `${name}TimestampMonotonic`));
    assert.ok(moment > 0, `${unit} has no ${name}`);
    return moment;
  }

  /** The journal's lines of a boot (0 is this one, -1 the one before) that options of journalctl select. */
  async journal(boot: 0 | -1, ...selected: readonly string[]): Promise<readonly string[]> {
    const said = await this.host.run(
      words`journalctl -q --no-pager -o cat -b ${String(boot)} ${selected}`,
    );
    return said.split('\n').filter((line) => line !== '');
  }

  /** Waits until `calico-cnm status` reports healthy. */
  async isWell(): Promise<void> {
    const status = () => this.host.exec(words`calico-cnm status`);
    const isWell = async () => (await status()).status === 0;
    if (await this.eventually(isWell)) return;
    assert.fail(`${(await status()).stdout}${(await this.journal(0, '-ucalico-cnm')).join('\n')}`);
  }

  /** The daemon's process, as systemd counts. */
  mainProcess(): Promise<string> {
    return this.property('calico-cnm', 'MainPID');
  }

  /** Streams from `inside` to `app` and from there to the host arrive whole; the daemon is well afterwards. */
  async losesNothing(meanwhile: () => Promise<unknown>): Promise<void> {
    const streams = [
      await pingStream(this.host, 'inside', await this.address('app', 'web')),
      await pingStream(this.host, 'app', uplinkAddresses.host),
    ];
    await meanwhile();
    await this.isWell();
    assert.deepEqual(await Promise.all(streams.map((stream) => stream.lost())), [0, 0]);
  }

  /** The host as it is after `systemctl reboot`. */
  async reboot(): Promise<SystemdLab> {
    await this.systemctl('reboot');
    assert.equal(await this.host.machine.ended(), rebooted);
    return startSystemdLab(this.#disk);
  }
}

/** Starts the host; all that is enabled has been started, or has failed, when this returns. */
export async function startSystemdLab(disk?: string): Promise<SystemdLab> {
  const host = await startHost({
    engine: '20.10',
    furnished: true,
    systemd: true,
    bare: true,
    hostname: 'host-1',
    uplink: true,
    ...(disk === undefined ? {} : { disk }),
  });
  const lab = new SystemdLab(host, disk);
  try {
    let said = '';
    const hasStarted = async () => {
      said = (
        await host.exec(words`systemctl is-system-running --wait`, { timeoutMs: 200_000 })
      ).stdout.trim();
      return said === 'running' || said === 'degraded';
    };
    assert.ok(await lab.eventually(hasStarted, 60_000), `systemd is ${said}`);
    if ((await lab.state('docker')) === 'active') await ensureTestImage(host.machine);
    return lab;
  } catch (error) {
    await lab[Symbol.asyncDispose]();
    throw error;
  }
}
