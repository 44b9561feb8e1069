import { mkdirSync } from 'node:fs';
import { createServer } from 'node:http';

/**
 * A network driver that does nothing: it returns immediately and uses veths created beforehand (`pool0` …). It shows
 * the time that Docker itself needs for a container on a remote driver's network.
 */

const socket = '/run/docker/plugins/empty.sock';
let next = 0;

const answers: Readonly<Record<string, () => object>> = {
  '/Plugin.Activate': () => ({ Implements: ['NetworkDriver'] }),
  '/NetworkDriver.GetCapabilities': () => ({ Scope: 'local', ConnectivityScope: 'local' }),
  '/NetworkDriver.CreateEndpoint': () => ({ Interface: {} }),
  '/NetworkDriver.EndpointOperInfo': () => ({ Value: {} }),
  '/NetworkDriver.Join': () => ({
    InterfaceName: { SrcName: `pool${next++}`, DstPrefix: 'eth' },
    DisableGatewayService: true,
  }),
};

mkdirSync('/run/docker/plugins', { recursive: true });
createServer((request, response) => {
  request.resume();
  request.on('end', () => {
    response.setHeader('content-type', 'application/vnd.docker.plugins.v1.2+json');
    response.end(JSON.stringify((answers[request.url ?? ''] ?? (() => ({})))()));
  });
}).listen(socket);
