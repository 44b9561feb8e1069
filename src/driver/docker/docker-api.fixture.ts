import type { DockerApi } from './docker-api.ts';

/** An empty Docker without events; tests replace the calls that they need. */
export const emptyDocker: DockerApi = {
  address: 'unix:///fake',
  engine: async () => ({
    id: 'engine',
    isRootless: false,
    swarm: { isManager: false, isInTouch: false },
  }),
  network: async () => undefined,
  networks: async () => [],
  networkDetails: async () => [],
  createNetwork: () => Promise.reject(new Error('no network can be created')),
  removeNetwork: async () => undefined,
  calicoPlugins: async () => [],
  services: async () => [],
  containers: async () => [],
  newContainers: async () => [],
  containerNamed: async () => undefined,
  enabledPlugins: async () => [],
  lastStart: async () => undefined,
  endpointNames: async () => new Map(),
  start: async () => undefined,
  events: () => Promise.reject(new Error('no events')),
};
