import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { patienceMs } from './poll.ts';
import type { Machine } from './machine.ts';
import type { BackgroundProcess } from './process.ts';

const socket = '/run/docker/plugins/calico.sock';

/** Starts `calico-cnm run` in the machine and waits until Docker can use it. */
export async function startCalicoDaemon(
  machine: Machine,
  env: Readonly<Record<string, string>> = {},
): Promise<BackgroundProcess> {
  const daemon = machine.spawn(['calico-cnm', 'run'], env);
  const deadline = Date.now() + patienceMs;
  while (!(await activates(machine.path(socket)))) {
    if (daemon.status !== undefined || Date.now() > deadline) {
      const status = await daemon.end('SIGKILL');
      throw new Error(`calico-cnm did not start (exit status ${status}): ${daemon.output()}`);
    }
    await sleep(20);
  }
  return daemon;
}

/** Reports whether a plugin socket responds to Plugin.Activate. */
function activates(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const options = { socketPath, path: '/Plugin.Activate', method: 'POST', agent: false };
    const asked = request({ ...options, timeout: 2000 }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    asked.on('timeout', () => asked.destroy(new Error('no answer')));
    asked.on('error', () => resolve(false));
    asked.end();
  });
}
