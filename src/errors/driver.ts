import { entry } from './spec.ts';

/** Rejected requests from Docker to the network driver. */
export const driverErrors = {
  'driver/bad-request': entry('input', (d: { field: string; why: string }) =>
    d.field === '' ? `invalid request: ${d.why}` : `invalid request: ${d.field}: ${d.why}`,
  ),
  'driver/empty-body': entry(
    'input',
    (_: Record<string, never>) =>
      'invalid request: empty body (Docker retried on a closed connection); retry',
  ),
  'driver/unknown-call': entry('input', (d: { call: string }) => `unknown plugin call ${d.call}`),
  'driver/unknown-option': entry(
    'input',
    (d: { key: string; known: string }) => `unknown network option "${d.key}"; known: ${d.known}`,
  ),
  'driver/bad-option': entry(
    'input',
    (d: { key: string; value: string; why: string }) =>
      `network option "${d.key}=${d.value}": ${d.why}`,
  ),
  'driver/namespace-denied': entry(
    'state',
    (d: { namespace: string; node: string }) =>
      `permission denied on the endpoints of host ${d.node} in namespace ${d.namespace}: no member of the cluster has granted it; check calico-cnm cluster status, or the role of the etcd user`,
  ),
  'driver/no-such-profile': entry(
    'input',
    (d: { profile: string }) =>
      `network option "profiles": Profile ${d.profile} does not exist; add it first: calico-cnm profile add ${d.profile}`,
  ),
  'driver/unknown-endpoint-option': entry(
    'input',
    (d: { key: string; known: string }) => `unknown endpoint option "${d.key}"; known: ${d.known}`,
  ),
  'driver/bad-endpoint-option': entry(
    'input',
    (d: { key: string; value: string; why: string }) =>
      `endpoint option "${d.key}=${d.value}": ${d.why}`,
  ),
  'driver/no-address-of-family': entry(
    'input',
    (d: { what: string; family: number }) =>
      `${d.what} cannot be added: this network has no IPv${d.family}` +
      (d.family === 6 ? '; create the network with --ipv6' : ''),
  ),
  'driver/bad-container-label': entry(
    'input',
    (d: { key: string; value: string; why: string }) => `label "${d.key}=${d.value}": ${d.why}`,
  ),
  'driver/network-differs': entry(
    'state',
    (d: { network: string }) =>
      `network ${d.network} already exists with other settings; remove it before creating it again`,
  ),
  'driver/definition-differs': entry(
    'state',
    (d: { name: string }) =>
      `network ${d.name} is defined with other settings (calico-cnm network inspect ${d.name}); remove it first: calico-cnm network rm ${d.name}`,
  ),
  'driver/definition-removing': entry(
    'state',
    (d: { name: string; hosts: string }) =>
      `network ${d.name} with other settings is being removed, and is still on ${d.hosts}; start these hosts, or delete their nodes: calico-cnm node delete NAME`,
  ),
  'driver/definition-in-use': entry(
    'state',
    (d: { name: string; users: string }) =>
      `network ${d.name} is in use by ${d.users}; stop or disconnect these containers first`,
  ),
  'driver/network-removing': entry(
    'state',
    (d: { name: string }) =>
      `network ${d.name} is being removed on all hosts; create it again: calico-cnm network create ${d.name}`,
  ),
  'driver/unknown-network': entry(
    'state',
    (d: { network: string }) =>
      `unknown network ${d.network} on this host; remove it (docker network rm) and create it again`,
  ),
  'driver/unknown-endpoint': entry(
    'state',
    (d: { endpoint: string }) =>
      `unknown endpoint ${d.endpoint} on this host; restart the container`,
  ),
  'driver/no-address': entry(
    'input',
    (d: { network: string }) =>
      `network ${d.network} has no IPAM; recreate it with --ipam-driver calico-ipam`,
  ),
  'driver/bad-mac': entry('input', (d: { mac: string }) => `"${d.mac}" is not a MAC address`),
  'driver/endpoint-exists': entry(
    'state',
    (d: { endpoint: string; addresses: string }) =>
      `endpoint ${d.endpoint} already exists with other addresses (${d.addresses}); recreate the container`,
  ),
  'driver/host-is-served': entry(
    'state',
    (d: { way: string; by: string }) =>
      `the ${d.way} cannot start: the ${d.by} already serves this host; stop it first (systemctl disable --now calico-cnm, or docker plugin disable)`,
  ),
  'driver/runs-already': entry(
    'state',
    (d: { process: string }) =>
      `the daemon is already running on this host (process ${d.process}); see calico-cnm status`,
  ),
  'driver/cannot-listen': entry(
    'state',
    (d: { file: string; why: string }) =>
      `cannot listen on ${d.file}: ${d.why}; check that no other calico-cnm daemon is running and that the directory is writable`,
  ),
} as const;
