import type { StrandedNetwork } from '../driver/networks/stranded-networks.ts';
import type { Check } from '../telemetry/status-report.ts';

/** What `status` says of the two ways to run on a host: as a daemon, or as a managed plugin. */

/** The other way wanted to serve this host as well. */
export function wayChecks(refusal: string | undefined): readonly Check[] {
  if (refusal === undefined) return [];
  return [
    {
      name: 'one way only',
      ok: false,
      detail: refusal,
      remedy: 'Disable one of the two; this line goes when the other one has been started again.',
    },
  ];
}

/** A network that only a plugin of another name can serve. */
export function strandedCheck({ name, driver }: StrandedNetwork): Check {
  return {
    name: `network ${name}`,
    ok: false,
    detail: `it was made with driver ${driver}, which is not enabled`,
    remedy: `Make it again with --driver calico, or enable ${driver}.`,
  };
}
