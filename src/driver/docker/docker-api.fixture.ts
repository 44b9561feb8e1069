import type { DockerApi } from './docker-api.ts';

/** A Docker that has nothing and tells nothing; tests replace what they need. */
export const emptyDocker: DockerApi = {
  address: 'unix:///fake',
  engine: async () => ({
    id: 'engine',
    isRootless: false,
    swarm: { isManager: false, isInTouch: false },
  }),
  network: async () => undefined,
  networks: async () => [],
  services: async () => [],
  containers: async () => [],
  containerNamed: async () => undefined,
  enabledPlugins: async () => [],
  lastStart: async () => undefined,
  start: async () => undefined,
  events: () => Promise.reject(new Error('no events')),
};
