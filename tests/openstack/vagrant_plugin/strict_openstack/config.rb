# The keys of the real one and how it takes them: strings stay strings, lists may be added to, a machine's own go last.
require "uri"

module StrictOpenStack
  class Http
    KEYS = {open_timeout: 60, read_timeout: 30, proxy: nil}.freeze
    attr_accessor(*KEYS.keys)

    def merge(other)
      [self, other].each_with_object(Http.new) do |one, merged|
        one.instance_variables.each { |key| merged.instance_variable_set(key, one.instance_variable_get(key)) }
      end
    end

    def finalize!
      KEYS.each { |key, value| instance_variable_set("@#{key}", value) unless instance_variable_defined?("@#{key}") }
    end
  end

  class Config < Vagrant.plugin("2", :config)
    URLS = %i[
      openstack_auth_url openstack_compute_url openstack_image_url openstack_network_url
      openstack_orchestration_url openstack_volume_url
    ].freeze
    PLAIN = (URLS + %i[
      availability_zone domain_name flavor floating_ip image keypair_name metadata password project_domain_name
      project_name public_key_path region scheduler_hints security_groups server_name ssh_timeout ssh_username
      ssl_ca_file sync_method tenant_name use_legacy_synced_folders user_data user_domain_name username volume_boot
    ]).freeze
    LISTS = %i[floating_ip_pool networks rsync_ignore_files rsync_includes stacks volumes].freeze
    TIMEOUTS = %i[
      floating_ip_assign_timeout server_active_timeout server_create_timeout server_delete_timeout server_stop_timeout
      stack_create_timeout stack_delete_timeout
    ].to_h { |key| [key, 200] }.freeze
    DEFAULTS = TIMEOUTS.merge(
      endpoint_type: "publicURL", floating_ip_pool_always_allocate: false, identity_api_version: "2",
      interface_type: "public", meta_args_support: false, ssh_disabled: false, ssl_verify_peer: true
    ).freeze
    NETWORK = %i[id name address].freeze

    attr_accessor :http, *PLAIN, *LISTS, *DEFAULTS.keys

    def initialize
      @http = Http.new
      LISTS.each { |key| instance_variable_set("@#{key}", []) }
    end

    def rsync_include(pattern)
      @rsync_includes << pattern
    end

    def merge(other)
      super.tap do |merged|
        merged.http = http.merge(other.http)
        LISTS.each { |key| merged.public_send("#{key}=", [other, self].map { |one| one.list(key) }.find(&:any?) || []) }
      end
    end

    def list(key) = [public_send(key)].flatten.compact

    def finalize!
      http.finalize!
      DEFAULTS.each { |key, value| public_send("#{key}=", value) if public_send(key).nil? }
      self.user_domain_name = self.project_domain_name = domain_name if domain_name
      LISTS.each { |key| public_send("#{key}=", list(key)) }
    end

    def validate(machine)
      found = _detected_errors + missing + unable + wrong + logins(machine)
      {"strict OpenStack provider" => found}
    end

    private

    # The names that Vagrant was given and nobody knows are in _detected_errors.
    def missing
      wanted = %i[username password]
      wanted += (identity_api_version == "2") ? %i[tenant_name] : %i[user_domain_name project_domain_name project_name]
      wanted.select { |key| public_send(key).to_s.empty? }.map { |key| "#{key} is required" }
    end

    def unable
      used = %i[volumes stacks].select { |key| list(key).any? } + (volume_boot ? [:volume_boot] : [])
      used << :identity_api_version if identity_api_version == "2"
      used.map { |key| "#{key}: this provider of tests cannot do that" }
    end

    def wrong
      bad = URLS.select { |key| public_send(key) && !URI(public_send(key)).is_a?(URI::HTTP) }
      bad << :identity_api_version unless %w[2 3].include?(identity_api_version)
      bad << :interface_type unless %w[public admin internal].include?(interface_type)
      bad.map { |key| "#{key}: #{public_send(key).inspect} is none" } + networks.flat_map { |one| strange(one) }
    end

    def strange(network)
      return [] if network.is_a?(String)
      return ["networks: #{network.inspect} is no hash"] unless network.is_a?(Hash)

      unknown = (network.keys - NETWORK).map { |key| "networks: the key #{key.inspect} shouldn't exist" }
      one_name = network.key?(:id) ^ network.key?(:name)
      one_name ? unknown : unknown << "networks: either an id or a name is required"
    end

    def logins(machine)
      ssh = machine.config.ssh
      found = []
      found << "ssh_username or config.ssh.username is required" unless ssh_username || ssh.username
      if ssh.insert_key && !ssh.private_key_path && (keypair_name || public_key_path)
        found << "config.ssh.private_key_path is required with keypair_name or public_key_path"
      end
      found
    end
  end
end
