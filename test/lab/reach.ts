import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { ended, tracked } from './children.ts';
import { eventually } from './poll.ts';

/** An address and port to connect to, with a name for the result. */
export interface Target {
  readonly name: string;
  readonly protocol: 'tcp' | 'udp';
  readonly address: string;
  readonly port: number;
}

/** A program in a network namespace that connects to targets. */
interface ReachClient extends AsyncDisposable {
  /** Returns the names of the targets that it reaches, in their order. One call at a time. */
  reach(targets: readonly Target[]): Promise<readonly string[]>;
}

/** Starts a client in the network namespace that a command enters. */
function startReachClient(enter: readonly string[]): ReachClient {
  const [command = '', ...rest] = enter;
  const script = join(import.meta.dirname, 'reach-process.ts');
  const client = tracked(
    'reach client',
    spawn(command, [...rest, process.execPath, script], { stdio: ['pipe', 'pipe', 'inherit'] }),
  );
  const lines = createInterface({ input: client.stdout })[Symbol.asyncIterator]();
  return {
    reach: async (targets) => {
      client.stdin.write(`${JSON.stringify(targets)}\n`);
      const { value } = await lines.next();
      return z.array(z.string()).parse(JSON.parse(String(value)));
    },
    [Symbol.asyncDispose]: async () => {
      client.stdin.end();
      await ended('reach client', client);
    },
  };
}

/** Clients by name, each with the targets that it reaches while nothing is denied. */
export class ReachTable implements AsyncDisposable {
  readonly #rows = new Map<string, { client: ReachClient; targets: () => readonly Target[] }>();

  /** Adds a client in the network namespace at a path. */
  add(name: string, namespacePath: string, targets: () => readonly Target[]): void {
    const client = startReachClient(['nsenter', `--net=${namespacePath}`]);
    this.#rows.set(name, { client, targets });
  }

  /** Asserts which targets each client does not reach, by the names of both; it reaches all others. */
  async onlyDenied(denied: Readonly<Record<string, readonly string[]>>): Promise<void> {
    await Promise.all(
      [...this.#rows].map(async ([name, { client, targets }]) => {
        const all = targets();
        const expected = all
          .map((one) => one.name)
          .filter((one) => denied[name]?.includes(one) !== true);
        let reached: readonly string[] = [];
        const isSo = async () => {
          reached = await client.reach(all);
          return reached.join() === expected.join();
        };
        if (!(await eventually(isSo, patienceMs))) assert.deepEqual(reached, expected, name);
      }),
    );
  }

  /** Reports whether a client reaches an address now, by one attempt. */
  async reaches(name: string, one: Target): Promise<boolean> {
    const { client } = this.#rows.get(name) ?? assert.fail(`there is no ${name}`);
    return (await client.reach([one])).length > 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { client } of this.#rows.values()) await client[Symbol.asyncDispose]();
  }
}

const patienceMs = 60_000;

/** Returns a target. */
export function target(
  protocol: 'tcp' | 'udp',
  name: string,
  address: string,
  port: number,
): Target {
  return { name, protocol, address, port };
}
