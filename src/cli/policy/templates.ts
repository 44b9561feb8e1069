/**
 * Ready policies as data: YAML documents of Calico in which `$parameter` stands for a value. A `$parameter` that is all
 * of a value may become a list or a number; within a longer text it is replaced by text.
 */
export interface Template {
  readonly name: string;
  /** Completes "calico-cnm policy template …: ". */
  readonly description: string;
  readonly parameters: Readonly<Record<string, Parameter>>;
  readonly documents: readonly string[];
}

/** A parameter; without a default it must be given. */
export interface Parameter {
  readonly type: 'containers' | 'networks' | 'ports' | 'directions' | 'label value' | 'number';
  readonly meaning: string;
  readonly default?: string;
}

const selector: Parameter = { type: 'containers', meaning: 'the containers', default: 'all' };
const order: Parameter = { type: 'number', meaning: 'order in the tier', default: '1000' };
const dns: Parameter = {
  type: 'networks',
  meaning: 'the name servers',
  default: '0.0.0.0/0,::/0',
};
const lan: Parameter = {
  type: 'networks',
  meaning: 'the local networks',
  default: '10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,169.254.0.0/16,fc00::/7',
};

/** Rules refer to networks by a set, because a rule with networks has one address family. */
const set = (name: string, nets: string) => `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata:
  name: $name-${name}
  labels:
    policy-template: $name-${name}
spec:
  nets: ${nets}
`;

export const templates: readonly Template[] = [
  {
    name: 'default-deny',
    description: 'deny everything that no other policy allows',
    parameters: {
      selector,
      direction: {
        type: 'directions',
        meaning: 'inbound, outbound or both',
        default: 'both',
      },
      order,
    },
    documents: [
      `
# A policy without rules: its tier denies everything that no other policy allows.
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata:
  name: $name
spec:
  order: $order
  selector: $selector
  types: $direction
`,
    ],
  },
  {
    name: 'same-project',
    description: 'accept connections from containers of the same Compose project only',
    parameters: {
      project: { type: 'label value', meaning: 'the Compose project' },
      order,
    },
    documents: [
      `
# Published ports of these containers are closed too.
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata:
  name: $name
spec:
  order: $order
  selector: com.docker.compose.project == '$project'
  types: [Ingress]
  ingress:
    - action: Allow
      source:
        selector: com.docker.compose.project == '$project'
`,
    ],
  },
  {
    name: 'internet-only',
    description: 'connect to name servers and the internet only: not to containers, not to the LAN',
    parameters: { selector, lan, dns, order },
    documents: [
      set('lan', '$lan'),
      set('dns', '$dns'),
      `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata:
  name: $name
spec:
  order: $order
  selector: $selector
  types: [Egress]
  egress:
    # Name servers, also on the LAN.
    - action: Allow
      protocol: UDP
      destination:
        selector: policy-template == '$name-dns'
        namespaceSelector: global()
        ports: [53]
    - action: Allow
      protocol: TCP
      destination:
        selector: policy-template == '$name-dns'
        namespaceSelector: global()
        ports: [53]
    # Everything but the LAN and containers.
    - action: Allow
      destination:
        notSelector: policy-template == '$name-lan' || has(projectcalico.org/namespace)
`,
    ],
  },
  {
    name: 'no-lan',
    description: 'do not connect to the LAN; everything else is decided as before',
    parameters: { selector, lan, dns, order },
    documents: [
      `
# A tier of its own, before the tier default: what it passes on is decided as without it.
apiVersion: projectcalico.org/v3
kind: Tier
metadata:
  name: $name
spec:
  order: 200
  defaultAction: Pass
`,
      set('lan', '$lan'),
      set('dns', '$dns'),
      `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata:
  name: $name
spec:
  tier: $name
  order: $order
  selector: $selector
  types: [Egress]
  egress:
    # Containers have addresses of the LAN, but are not meant.
    - action: Pass
      destination:
        selector: has(projectcalico.org/namespace)
    # Name servers on the LAN.
    - action: Pass
      protocol: UDP
      destination:
        selector: policy-template == '$name-dns'
        namespaceSelector: global()
        ports: [53]
    - action: Pass
      protocol: TCP
      destination:
        selector: policy-template == '$name-dns'
        namespaceSelector: global()
        ports: [53]
    - action: Deny
      destination:
        selector: policy-template == '$name-lan'
        namespaceSelector: global()
`,
    ],
  },
  {
    name: 'dmz',
    description: 'proxies that accept connections from anywhere and connect to their backends only',
    parameters: {
      selector: { type: 'containers', meaning: 'the proxies' },
      ports: { type: 'ports', meaning: 'TCP ports of the proxies', default: '80,443' },
      backend: { type: 'containers', meaning: 'the backends' },
      'backend-ports': { type: 'ports', meaning: 'TCP ports of the backends' },
      order,
    },
    documents: [
      `
# The proxies.
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata:
  name: $name
spec:
  order: $order
  selector: $selector
  types: [Ingress, Egress]
  ingress:
    - action: Allow
      protocol: TCP
      destination:
        ports: $ports
  egress:
    - action: Allow
      protocol: TCP
      destination:
        selector: $backend
        ports: $backend-ports
`,
      `
# The backends.
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata:
  name: $name-backend
spec:
  order: $order
  selector: $backend
  types: [Ingress]
  ingress:
    - action: Allow
      protocol: TCP
      source:
        selector: $selector
      destination:
        ports: $backend-ports
`,
    ],
  },
  {
    name: 'block-metadata',
    description:
      'do not connect to the metadata services of cloud providers, which hand out credentials',
    parameters: {
      selector,
      nets: {
        type: 'networks',
        meaning: 'addresses of metadata services',
        default:
          '169.254.169.254,169.254.170.2,169.254.170.23,100.100.100.200,fd00:ec2::254,fd00:ec2::23,fd20:ce::254',
      },
      order,
    },
    documents: [
      `
apiVersion: projectcalico.org/v3
kind: Tier
metadata:
  name: deny
  annotations:
    docker.projectcalico.org/created-by: policy deny
spec:
  order: 100
  defaultAction: Pass
`,
      set('services', '$nets'),
      `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata:
  name: $name
spec:
  tier: deny
  order: $order
  selector: $selector
  types: [Egress]
  egress:
    # With some providers the same address is the name server.
    - action: Deny
      protocol: TCP
      destination:
        selector: policy-template == '$name-services'
        namespaceSelector: global()
        notPorts: [53]
`,
    ],
  },
  {
    name: 'dns-only',
    description: 'connect to name servers only',
    parameters: { selector, dns, order },
    documents: [
      set('dns', '$dns'),
      `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata:
  name: $name
spec:
  order: $order
  selector: $selector
  types: [Egress]
  egress:
    - action: Allow
      protocol: UDP
      destination:
        selector: policy-template == '$name-dns'
        namespaceSelector: global()
        ports: [53]
    - action: Allow
      protocol: TCP
      destination:
        selector: policy-template == '$name-dns'
        namespaceSelector: global()
        ports: [53]
`,
    ],
  },
];
