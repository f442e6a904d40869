# The image of gpumix: `docker build -t gpumix .`. Node.js, the compiled service, what it needs at run time, and nothing
# else: no shell, no package manager, no root.
#
# Another Node.js (22, 24): --build-arg NODE_MAJOR=22. Tests run on 20.
ARG NODE_MAJOR=20

FROM node:${NODE_MAJOR}-bookworm-slim AS build
WORKDIR /build
# Packages change less often than sources: this layer is kept while they do not. No script of a package runs.
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY scripts ./scripts
COPY src ./src
RUN node scripts/build.mjs && rm dist/.built
# Types and source maps are a third of what would be left, and nothing reads them at run time.
RUN npm prune --omit=dev --ignore-scripts --no-audit --no-fund \
  && find dist node_modules -type f \( -name '*.map' -o -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' \) -delete

FROM gcr.io/distroless/nodejs${NODE_MAJOR}-debian12:nonroot
WORKDIR /app
COPY --from=build /build/node_modules ./node_modules
COPY --from=build /build/dist ./dist
COPY package.json LICENSE ./
COPY profiles ./profiles
COPY samples/quickstart ./samples/quickstart
ENV NODE_ENV=production
# `nonroot` of distroless; as a number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 8080
# Node.js itself is process 1: SIGTERM reaches gpumix, which ends running requests and the running cycle first.
ENTRYPOINT ["/nodejs/bin/node", "/app/dist/cli/main.js"]
CMD ["serve"]
