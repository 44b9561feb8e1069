import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Settings } from '../config/settings.ts';
import { chooseBackend } from '../dataplane/iptables/backend.ts';
import type { SocketFile } from '../driver/plugin/socket-file.ts';
import { version } from '../version.ts';
import { createAgentComponent } from './agent-component.ts';
import { startControlComponent } from './control-component.ts';
import { createClusterComponent } from './cluster-component.ts';
import { createDockerComponent } from './docker-component.ts';
import { createBgpComponent } from './bgp-component.ts';
import { createCommon } from './common.ts';
import { DataMover } from './data-mover.ts';
import { ServiceManager } from './service-manager.ts';
import { openDatastoreComponent, type DatastoreComponent } from './datastore-component.ts';
import { startWatchdog } from './watchdog.ts';

/** Timeout for background tasks at shutdown; the process exits in any case. */
const shutdownTimeoutMs = 5000;

/**
 * The daemon: creates and connects the components, and runs until the signal is aborted. The network of running
 * containers stays in the kernel when it stops.
 */
export async function runDaemon(
  settings: Settings,
  { signal, managed }: { readonly signal: AbortSignal; readonly managed: SocketFile | undefined },
): Promise<void> {
  // Docker logs a plugin's stderr as errors.
  const output = managed === undefined ? process.stderr : process.stdout;
  const opened: { store?: DatastoreComponent } = {};
  const common = createCommon({
    settings,
    signal,
    write: (line) => output.write(line),
    isDatastoreAway: () => opened.store?.mirror.health.inSyncSince === undefined,
  });
  const { node, log, sockets, runner, supervisor } = common;
  process.on('warning', ({ name, message }) => log.debug('Node.js warning', { name, message }));
  const manager = new ServiceManager(sockets.libc, process.env);
  startWatchdog({ libc: sockets.libc, supervisor, manager, log }, signal);
  const firewall = await chooseBackend(runner, settings.iptablesBackend, signal);

  const store = await openDatastoreComponent(common);
  opened.store = store;
  const agent = createAgentComponent(common, { mirror: store.mirror, firewall });
  const bgp = createBgpComponent(common, { mirror: store.mirror, writer: store.writer, agent });
  const mover = new DataMover(common, store);
  const docker = createDockerComponent(common, store, agent, (stop) => mover.settleFirst(stop));
  const cluster = createClusterComponent(common, store);
  const working = [
    agent.run(),
    store.run(),
    cluster.run(),
    bgp.run(),
    common.keep('interrupted moves', (work) => mover.settle(work, signal)),
  ];
  const socketFiles = ['calico.sock', 'calico-ipam.sock'].map((file) =>
    join(settings.pluginDirectory, file),
  );
  // Status is available before the plugin's sockets exist.
  const control = await startControlComponent(common, {
    store,
    agent,
    bgp,
    docker,
    mover,
    firewall,
    socketFiles,
  });
  const server = await docker.serverWith('local');
  await server.listen(socketFiles);
  const managedServer = managed && (await docker.serverWith(settings.scope));
  if (managed !== undefined) managedServer?.serve(managed);
  manager.ready();
  log.info('daemon ready', {
    version,
    node,
    datastore: store.datastore.endpoint,
    firewall: `iptables-${firewall.backend}`,
  });
  const background = docker.run();

  await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
  manager.stopping();
  log.info('daemon stopping; running containers keep their network');
  await Promise.all([server.close(), managedServer?.close()]);
  await control.close();
  await Promise.race([Promise.all([...working, background]), sleep(shutdownTimeoutMs)]);
  agent.close();
  await store.datastore.close();
  sockets.close();
}
