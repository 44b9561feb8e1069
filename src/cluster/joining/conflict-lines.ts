/** Returns the conflicts as lines for the user, and how containers get other addresses. */
export function conflictLines({
  conflicts,
  freeRanges,
}: {
  readonly conflicts: readonly { readonly text: string }[];
  /** Empty if no address conflicts. */
  readonly freeRanges: readonly string[];
}): readonly string[] {
  const lines = conflicts.map(({ text }) => `- ${text}`);
  if (freeRanges.length === 0) return lines;
  const pools = freeRanges.map(
    (range, index) =>
      `     {kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: renumbered${index === 0 ? '' : `-${index + 1}`}}, spec: {cidr: ${range}, natOutgoing: ${String(!range.includes(':'))}}}`,
  );
  return [
    ...lines,
    'To renumber containers, on this host:',
    '  1. create an IP pool that is free on both sides, with calico-cnm apply -f FILE:',
    ...pools,
    '  2. set spec.disabled: true in the pool that they have now (calico-cnm get ippool NAME -o yaml >FILE, apply -f FILE)',
    '  3. recreate the containers (docker compose up -d --force-recreate), and networks with a --subnet of their own',
    '  4. delete the former pool (calico-cnm delete ippool NAME), and run this command again',
  ];
}
