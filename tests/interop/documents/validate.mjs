// What the tools of OpenRPC and AsyncAPI make of a hub's documents: node validate.mjs http://host:port
import { createRequire } from "node:module";
import { Parser } from "@asyncapi/parser";

const require = createRequire(import.meta.url);
const { parseOpenRPCDocument, validateOpenRPCDocument } = require("@open-rpc/schema-utils-js");
const metaSchema = require("@open-rpc/meta-schema");
const Ajv = require("ajv").default;
const jsonSchema = require("@json-schema-tools/meta-schema").default;
const addFormats = require("ajv-formats").default;

const base = process.argv[2];
const say = (what, more) => console.log(JSON.stringify({ what, ...more }));
const text = async (path) => (await fetch(base + path)).text();

const openrpc = JSON.parse(await text("/openrpc.json"));
const verdict = validateOpenRPCDocument(openrpc);
say("openrpc", { problem: verdict === true ? null : String(verdict.message ?? verdict) });

const schema = metaSchema.default ?? metaSchema;
const ajv = addFormats(new Ajv({ strict: false, validateSchema: false }));
ajv.addSchema([{ ...jsonSchema, $id: "https://meta.json-schema.tools/" }, { ...jsonSchema, $id: "https://meta.json-schema.tools" }]);
const valid = ajv.validate(schema, openrpc);
say("meta-schema", { problem: valid ? null : ajv.errorsText(), asked: schema.title });

const whole = await parseOpenRPCDocument(openrpc);
say("dereferenced", { methods: whole.methods.map((method) => method.name), loose: JSON.stringify(whole).includes('"$ref"') });

const { document, diagnostics } = await new Parser().parse(await text("/asyncapi.json"));
say("asyncapi", {
  channels: document?.channels().all().map((channel) => channel.address()) ?? [],
  problems: diagnostics.filter((each) => each.severity < 2).map((each) => `${each.path.join(".")}: ${each.message}`),
});
