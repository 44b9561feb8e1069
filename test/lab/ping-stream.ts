import assert from 'node:assert/strict';
import type { Host } from './host.ts';

/** A stream of 100 packets a second. */
export interface PingStream {
  /** Ends the stream; returns how many packets had no reply, without those still in flight. */
  lost(): Promise<number>;
}

/**
 * Starts to ping an address from a container, a hundred times a second: by the host's own ping in the
 * container's network, so that it does not end with dockerd.
 */
export async function pingStream(host: Host, from: string, to: string): Promise<PingStream> {
  const pid = await host.docker('inspect', '-f', '{{.State.Pid}}', from);
  return streamOf(host, from, ['nsenter', `--net=/proc/${pid}/ns/net`], to);
}

/** As `pingStream`, from the host itself. */
export function pingFromHost(host: Host, to: string): PingStream {
  return streamOf(host, 'the host', [], to);
}

function streamOf(host: Host, from: string, enter: readonly string[], to: string): PingStream {
  const process = host.spawn([...enter, 'ping', '-q', '-i', '0.01', to]);
  return {
    lost: async () => {
      process.signal('SIGINT');
      await process.exited;
      const said = process.output();
      const [, sent = '0', received = '0'] =
        /(\d+) packets transmitted, (\d+) received/.exec(said) ?? [];
      assert.ok(Number(received) > 20, `the stream from ${from} to ${to} did not flow: ${said}`);
      return Math.max(0, Number(sent) - Number(received) - 1);
    },
  };
}
