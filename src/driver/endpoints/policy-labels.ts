import { isPolicyLabel } from './selection.ts';
import type { DockerApi } from '../docker/docker-api.ts';
import type { ContainerInfo } from '../docker/messages.ts';

/** Wraps an engine to hide container labels that select Profiles or labels (`CALICO_LABEL_ENDPOINTS`). */
export function withoutPolicyLabels(docker: DockerApi): DockerApi {
  return {
    ...docker,
    containers: async (signal) => (await docker.containers(signal)).map(stripped),
    newContainers: async (signal) => (await docker.newContainers(signal)).map(stripped),
    containerNamed: async (name, signal) => {
      const container = await docker.containerNamed(name, signal);
      return container === undefined ? undefined : stripped(container);
    },
  };
}

function stripped(container: ContainerInfo): ContainerInfo {
  const kept = Object.entries(container.Labels).filter(([key]) => !isPolicyLabel(key));
  return { ...container, Labels: Object.fromEntries(kept) };
}
