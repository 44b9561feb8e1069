import assert from 'node:assert/strict';
import type { NetworkLab } from './network-lab.ts';

/** A stream of 100 packets a second from a container. */
export interface PingStream {
  /** Ends it; answers how many packets had no answer. One that is still under way is none. */
  lost(): Promise<number>;
}

type Docker = Pick<NetworkLab, 'host'>['host'];

/** Starts to ping an address from a container, a hundred times a second; one stream from each container. */
export function pingStream(host: Docker, from: string, to: string): PingStream {
  const process = host.spawn(['docker', 'exec', from, 'ping', '-q', '-i', '0.01', to]);
  return {
    lost: async () => {
      await host.docker('exec', from, 'sh', '-c', 'kill -INT $(pidof ping)');
      await process.exited;
      const said = process.output();
      const [, sent = '0', received = '0'] =
        /(\d+) packets transmitted, (\d+) packets received/.exec(said) ?? [];
      assert.ok(Number(received) > 50, `the stream from ${from} to ${to} did not flow: ${said}`);
      return Math.max(0, Number(sent) - Number(received) - 1);
    },
  };
}
