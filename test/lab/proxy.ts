import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ended, tracked } from './children.ts';
import type { Machine } from './machine.ts';

/** A web proxy for the downloads of an installation on a machine without an uplink. */
export interface Proxy extends AsyncDisposable {
  /** Variables that configure the proxy for apt and npm. */
  readonly environment: Readonly<Record<string, string>>;
}

/** Serves the machine's address 127.0.0.1:3128; the connections out are made by this process. */
export async function startProxy(machine: Machine): Promise<Proxy> {
  const folder = mkdtempSync(join(tmpdir(), 'calico-proxy-'));
  const socketFile = join(folder, 'proxy.sock');
  const server = createServer((asked, answer) => {
    const forwarded = request(
      asked.url ?? '',
      { method: asked.method ?? 'GET', headers: asked.headers },
      (response) => {
        answer.writeHead(response.statusCode ?? 502, response.headers);
        response.pipe(answer);
      },
    );
    forwarded.on('error', () => answer.destroy());
    asked.pipe(forwarded);
  });
  server.on('connect', (asked, inside, head) => {
    const [host = '', port = '443'] = (asked.url ?? '').split(':');
    const outside = connect(Number(port), host, () => {
      inside.write('HTTP/1.1 200 Connected\r\n\r\n');
      outside.write(head);
      outside.pipe(inside).pipe(outside);
    });
    outside.on('error', () => inside.destroy());
    inside.on('error', () => outside.destroy());
  });
  server.listen(socketFile);
  await once(server, 'listening');
  const [command = '', ...rest]: readonly string[] = [
    ...machine.enterNetwork,
    process.execPath,
    join(import.meta.dirname, 'proxy-relay.ts'),
    socketFile,
  ];
  const relay = tracked('proxy', spawn(command, rest, { stdio: ['ignore', 'pipe', 'inherit'] }));
  await once(relay.stdout, 'data', { signal: AbortSignal.timeout(120_000) });
  const url = 'http://127.0.0.1:3128';
  return {
    environment: {
      http_proxy: url,
      https_proxy: url,
      npm_config_proxy: url,
      npm_config_https_proxy: url,
      no_proxy: 'localhost',
    },
    [Symbol.asyncDispose]: async () => {
      relay.kill();
      await ended('proxy', relay);
      server.closeAllConnections();
      server.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
