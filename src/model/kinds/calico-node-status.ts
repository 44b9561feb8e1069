import { z } from 'zod';
import { resource } from '../fields.ts';
import { nameColumn, resourceType, type Problem, type ResourceType } from '../resource-type.ts';

const longestPeriodSeconds = 86_400;

const text = z.exactOptional(z.string());

const daemonStatus = z.looseObject({
  state: z.exactOptional(z.enum(['Ready', 'NotReady'])),
  version: text,
  routerID: text,
  lastBootTime: text,
  lastReconfigurationTime: text,
});

const peerStatus = z.looseObject({ peerIP: text, type: text, state: text, since: text });

const routeStatus = z.looseObject({
  type: z.exactOptional(z.enum(['FIB', 'RIB'])),
  destination: text,
  gateway: text,
  interface: text,
  learnedFrom: z.exactOptional(z.looseObject({ sourceType: text, peerIP: text })),
});

const peers = z.exactOptional(z.array(peerStatus));
const routes = z.exactOptional(z.array(routeStatus));

/** What a node found; `lastUpdated` is RFC 3339. */
const status = z.looseObject({
  lastUpdated: text,
  agent: z.exactOptional(
    z.looseObject({
      birdV4: z.exactOptional(daemonStatus),
      birdV6: z.exactOptional(daemonStatus),
    }),
  ),
  bgp: z.exactOptional(
    z.looseObject({
      numberEstablishedV4: z.int(),
      numberNotEstablishedV4: z.int(),
      numberEstablishedV6: z.int(),
      numberNotEstablishedV6: z.int(),
      peersV4: peers,
      peersV6: peers,
    }),
  ),
  routes: z.exactOptional(z.looseObject({ routesV4: routes, routesV6: routes })),
});

const statusClass = z.enum(['Agent', 'BGP', 'Routes']);

const calicoNodeStatus = resource(
  'CalicoNodeStatus',
  z.looseObject({
    node: z.string(),
    classes: z.array(statusClass),
    updatePeriodSeconds: z.exactOptional(z.int().min(0).max(longestPeriodSeconds)),
  }),
).extend({ status: z.exactOptional(status) });

/** A request for the state of BGP on a node, which the node answers in `status` again and again. */
export type CalicoNodeStatus = z.infer<typeof calicoNodeStatus>;
export type NodeStatus = z.infer<typeof status>;
export type StatusClass = z.infer<typeof statusClass>;
export type DaemonStatus = z.infer<typeof daemonStatus>;
export type RouteStatus = z.infer<typeof routeStatus>;

/** Source: api/pkg/apis/projectcalico/v3/nodestatus.go. */
export const calicoNodeStatusType: ResourceType<CalicoNodeStatus> = resourceType({
  kind: 'CalicoNodeStatus',
  plural: 'caliconodestatuses',
  aliases: ['caliconodestatus'],
  meaning: 'state of BGP on a node, which the node updates',
  schema: calicoNodeStatus,
  columns: [
    nameColumn,
    { header: 'node', cell: ({ spec }) => spec.node },
    { header: 'classes', cell: ({ spec }) => spec.classes.join(',') },
    { header: 'interval', cell: ({ spec }) => String(spec.updatePeriodSeconds ?? 0) },
    { header: 'lastupdate', cell: ({ status: found }) => found?.lastUpdated ?? '' },
  ],
  validate: statusProblem,
});

function statusProblem({ spec }: CalicoNodeStatus): Problem | undefined {
  if (spec.node === '') return { field: 'spec.node', why: 'must name a node' };
  if (spec.classes.length === 0) {
    return { field: 'spec.classes', why: 'needs at least one of Agent, BGP and Routes' };
  }
  if (new Set(spec.classes).size < spec.classes.length) {
    return { field: 'spec.classes', why: 'names a class twice' };
  }
  if (spec.updatePeriodSeconds === undefined) {
    const why = `needs a number of seconds up to ${longestPeriodSeconds}; 0: no updates`;
    return { field: 'spec.updatePeriodSeconds', why };
  }
  return undefined;
}
