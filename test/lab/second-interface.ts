import type { Machine } from './machine.ts';

/** Addresses of a second network of a machine with an uplink, and of a host in it. All are for documentation. */
export const lanAddresses = {
  host: '192.0.2.1',
  neighbour: '192.0.2.2',
  hostV6: '2001:db8:192::1',
  neighbourV6: '2001:db8:192::2',
} as const;

/**
 * Gives a machine a second interface, `lan0`, with a neighbour in the namespace `lan` whose default route is the
 * machine; the router of the uplink knows the way back. So a machine that is a router, is one between the two.
 */
export async function addSecondInterface(machine: Machine): Promise<void> {
  const { host, neighbour, hostV6, neighbourV6 } = lanAddresses;
  await machine.run([
    'sh',
    '-ec',
    `ip netns add lan
     ip link add lan0 type veth peer name eth0 netns lan
     ip address add ${host}/24 dev lan0
     ip -6 address add ${hostV6}/64 dev lan0 nodad
     ip link set lan0 up
     ip -n lan link set lo up
     ip -n lan address add ${neighbour}/24 dev eth0
     ip -n lan -6 address add ${neighbourV6}/64 dev eth0 nodad
     ip -n lan link set eth0 up
     ip -n lan route add default via ${host}
     ip -n lan -6 route add default via ${hostV6}
     ip -n router route add 192.0.2.0/24 via 203.0.113.2
     ip -n router -6 route add 2001:db8:192::/64 via 2001:db8:113::2`,
  ]);
}

/** Whether a host behind the uplink's router gets an answer from the neighbour on the second interface, through the machine. */
export async function routesBetweenInterfaces(machine: Machine, family: 4 | 6): Promise<boolean> {
  const to = family === 4 ? lanAddresses.neighbour : lanAddresses.neighbourV6;
  const ping = ['ping', '-c', '1', '-W', '1', to];
  return (await machine.exec(['ip', 'netns', 'exec', 'router', ...ping])).status === 0;
}
