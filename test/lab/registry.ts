import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ended, tracked } from './children.ts';
import type { Machine } from './machine.ts';
import { outputOf } from './process.ts';

/** A container registry on a machine; Docker uses plain HTTP for a registry on the loopback. */
export interface Registry extends AsyncDisposable {
  /** The prefix of its references. */
  readonly address: string;
}

/** Starts Debian's docker-registry in the machine's network; pushed images are in a folder that is removed with it. */
export async function startRegistry(machine: Machine): Promise<Registry> {
  const address = '127.0.0.1:5000';
  const { PATH = '' } = process.env;
  const folder = mkdtempSync(join(tmpdir(), 'calico-registry-'));
  const settings = {
    version: 0.1,
    storage: { filesystem: { rootdirectory: join(folder, 'data') } },
    http: { addr: address },
  };
  // JSON is YAML.
  writeFileSync(join(folder, 'config.yml'), JSON.stringify(settings));
  const [command = '', ...rest]: readonly string[] = [
    ...machine.enterNetwork,
    'docker-registry',
    'serve',
    join(folder, 'config.yml'),
  ];
  const registry = tracked('registry', spawn(command, rest, { stdio: 'ignore', env: { PATH } }));
  const listens = `until ss -Hltn 'src ${address}' | grep -q .; do sleep 0.1; done`;
  await outputOf([...machine.enterNetwork, 'timeout', '60', 'sh', '-c', listens], {
    env: { PATH },
  });
  return {
    address,
    [Symbol.asyncDispose]: async () => {
      registry.kill();
      await ended('registry', registry);
      rmSync(folder, { recursive: true });
    },
  };
}
