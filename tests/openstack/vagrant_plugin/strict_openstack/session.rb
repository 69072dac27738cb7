# One login for all machines, as the real one has it: whoever comes first decides the project.
require "json"
require "net/http"

module StrictOpenStack
  class Session
    LOGIN = Mutex.new

    # The session of the process; the machine is asked only by the first who wants it.
    def self.of(machine)
      LOGIN.synchronize { @one ||= new(machine.provider_config) }
    end

    def initialize(config)
      @config = config
      answer = call(Net::HTTP::Post, "#{config.openstack_auth_url}/auth/tokens", {auth: identity})
      @token = answer["X-Subject-Token"]
      @catalog = JSON.parse(answer.body)["token"]["catalog"]
    end

    def get(service, path) = said(Net::HTTP::Get, service, path)

    def post(service, path, body) = said(Net::HTTP::Post, service, path, body)

    def delete(service, path) = said(Net::HTTP::Delete, service, path)

    private

    def said(verb, service, path, body = nil)
      answer = call(verb, "#{endpoint(service)}/#{path}", body)
      answer.body.to_s.empty? ? {} : JSON.parse(answer.body)
    end

    def identity
      user = {name: @config.username, password: @config.password, domain: {name: @config.user_domain_name}}
      project = {name: @config.project_name, domain: {name: @config.project_domain_name}}
      {identity: {methods: ["password"], password: {user: user}}, scope: {project: project}}
    end

    def endpoint(service)
      named = @config.public_send("openstack_#{service}_url")
      return named if named

      offered = @catalog.find { |one| one["type"] == service.to_s }.to_h.fetch("endpoints", [])
      found = offered.find { |one| one["interface"] == @config.interface_type && here?(one) }
      raise Fault, "The cloud's catalog has no #{service} service" unless found

      # Neutron's endpoint comes without its version.
      (service == :network) ? "#{found["url"].chomp("/")}/v2.0" : found["url"]
    end

    def here?(endpoint) = @config.region.nil? || endpoint["region"] == @config.region

    def call(verb, url, body = nil)
      request = verb.new(URI(url), headers)
      request.body = body.to_json if body
      answer = connect(request.uri) { |http| http.request(request) }
      raise Gone if answer.is_a?(Net::HTTPNotFound)
      raise Fault, "#{request.method} #{url}: #{answer.code} #{answer.body}" unless answer.is_a?(Net::HTTPSuccess)

      answer
    end

    def headers = {"Content-Type" => "application/json", "X-Auth-Token" => @token}.compact

    def connect(uri, &use)
      patience = {open_timeout: @config.http.open_timeout, read_timeout: @config.http.read_timeout}
      trust = {ca_file: @config.ssl_ca_file, verify_mode: verify_mode, use_ssl: uri.scheme == "https"}
      Net::HTTP.start(uri.host, uri.port, **patience, **trust, &use)
    end

    def verify_mode = @config.ssl_verify_peer ? OpenSSL::SSL::VERIFY_PEER : OpenSSL::SSL::VERIFY_NONE
  end
end
