import { entry } from './spec.ts';

/** What Docker asks of the network driver and cannot have. */
export const driverErrors = {
  'driver/bad-request': entry('input', (d: { field: string; why: string }) =>
    d.field === '' ? `request refused: ${d.why}` : `request refused: ${d.field}: ${d.why}`,
  ),
  'driver/empty-body': entry(
    'input',
    (_: Record<string, never>) =>
      'request refused: it has no body (Docker repeated a call whose connection broke); try again',
  ),
  'driver/unknown-call': entry(
    'input',
    (d: { call: string }) => `calico does not know the call ${d.call}`,
  ),
  'driver/unknown-option': entry(
    'input',
    (d: { key: string; known: string }) => `unknown network option "${d.key}"; known: ${d.known}`,
  ),
  'driver/bad-option': entry(
    'input',
    (d: { key: string; value: string; why: string }) =>
      `network option "${d.key}=${d.value}": ${d.why}`,
  ),
  'driver/no-such-profile': entry(
    'input',
    (d: { profile: string }) =>
      `network option "profiles": Profile ${d.profile} does not exist, so the network's containers would be denied all traffic; add it first: calico-cnm profile add ${d.profile}`,
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
    (d: { address: string; family: number }) =>
      `address ${d.address} cannot be added: this network gives its containers no IPv${d.family} address` +
      (d.family === 6 ? '; create the network with --ipv6' : ''),
  ),
  'driver/bad-container-label': entry(
    'input',
    (d: { key: string; value: string; why: string }) => `label "${d.key}=${d.value}": ${d.why}`,
  ),
  'driver/network-differs': entry(
    'state',
    (d: { network: string }) =>
      `network ${d.network} exists with other settings; remove it before making it anew`,
  ),
  'driver/unknown-network': entry(
    'state',
    (d: { network: string }) =>
      `network ${d.network} is not known to calico on this host; remove it (docker network rm) and create it again`,
  ),
  'driver/unknown-endpoint': entry(
    'state',
    (d: { endpoint: string }) =>
      `endpoint ${d.endpoint} is not known to calico on this host; start the container again`,
  ),
  'driver/no-address': entry(
    'input',
    (d: { network: string }) =>
      `network ${d.network} gives no addresses; create it with --ipam-driver calico-ipam`,
  ),
  'driver/bad-mac': entry('input', (d: { mac: string }) => `"${d.mac}" is not a MAC address`),
  'driver/endpoint-exists': entry(
    'state',
    (d: { endpoint: string; addresses: string }) =>
      `endpoint ${d.endpoint} exists with other addresses (${d.addresses}); remove its container and start it anew`,
  ),
  'driver/host-is-served': entry(
    'state',
    (d: { way: string; by: string }) =>
      `the ${d.way} does not start, as this host is served by the ${d.by}; stop that one first (systemctl disable --now calico-cnm, or docker plugin disable)`,
  ),
  'driver/runs-already': entry(
    'state',
    (d: { process: string }) =>
      `the daemon runs on this host already (process ${d.process}); calico-cnm status shows how it is`,
  ),
  'driver/cannot-listen': entry(
    'state',
    (d: { file: string; why: string }) =>
      `cannot listen on ${d.file}: ${d.why}; see that no other daemon of ours runs, and that the folder can be written`,
  ),
} as const;
