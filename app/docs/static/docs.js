"use strict";

// Scalar's page with everything off that would speak to another host. The samples are those of the document.
Scalar.createApiReference("#reference", {
  url: "docs.openapi",
  servers: [{ url: window.location.origin }],
  hiddenClients: true,
  hideClientButton: true,
  hideModels: true,
  documentDownloadType: "json",
  withDefaultFonts: false,
  telemetry: false,
  proxyUrl: "",
  externalUrls: { dashboardUrl: "", registryUrl: "", proxyUrl: "", apiBaseUrl: "" },
  agent: { disabled: true },
  mcp: { disabled: true },
  showDeveloperTools: "never",
  authentication: { preferredSecurityScheme: "token" },
});
