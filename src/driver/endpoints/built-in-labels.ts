/** Labels of every endpoint; the values are Docker's names, mapped where Calico requires it. */
export const builtInLabels = {
  network: 'com.docker.network.name',
  container: 'com.docker.container.name',
  composeProject: 'com.docker.compose.project',
  composeService: 'com.docker.compose.service',
} as const;
