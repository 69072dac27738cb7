# What a machine's configuration names, as Nova wants it told.
require "base64"
require "openssl"
require "net/ssh"

module StrictOpenStack
  class Choice
    def initialize(machine, session)
      @machine = machine
      @config = machine.provider_config
      @session = session
    end

    def server
      {
        name: @config.server_name || @machine.name.to_s,
        flavorRef: match("flavors", @config.flavor),
        imageRef: match("images", @config.image),
        networks: networks,
        security_groups: groups,
        availability_zone: @config.availability_zone,
        metadata: @config.metadata,
        user_data: @config.user_data && Base64.encode64(@config.user_data),
        key_name: keypair
      }.reject { |_, value| value.nil? || value == [] }
    end

    # An address of the machine's own, a free one that may be anybody's, or a new one; none is ever given back.
    def floating_ip
      @config.floating_ip ||= (free_floating_ip || new_floating_ip if @config.floating_ip_pool.any?)
    end

    private

    def match(kind, wanted)
      found = @session.get(:compute, "#{kind}/detail")[kind].find do |one|
        [one["id"], one["name"]].include?(wanted) || (wanted.is_a?(Regexp) && wanted.match?(one["name"]))
      end
      found ? found["id"] : raise(Fault, "No #{kind.chomp("s")} #{wanted.inspect}")
    end

    def networks
      return [] if @config.networks.empty?

      known = @session.get(:network, "networks")["networks"]
      @config.networks.map { |wanted| network(wanted.is_a?(String) ? {name: wanted} : wanted, known) }
    end

    def network(wanted, known)
      key = wanted.key?(:id) ? :id : :name
      found = known.select { |one| one[key.to_s] == wanted[key] }
      raise Fault, "#{found.size} networks are #{wanted[key].inspect}" unless found.one?

      {uuid: found.first["id"], fixed_ip: wanted[:address]}.compact
    end

    def groups = @config.security_groups.to_a.map { |one| one.is_a?(String) ? {name: one} : one }

    def keypair
      return unless @machine.config.ssh.insert_key

      @config.keypair_name || imported(@config.public_key_path ? File.read(@config.public_key_path) : generated)
    end

    def imported(public_key)
      name = "vagrant-generated-#{rand(36**8).to_s(36)}"
      File.write(@machine.data_dir.join(name), @private_key, perm: 0o600) if @private_key
      @session.post(:compute, "os-keypairs", {keypair: {name: name, public_key: public_key}})
      name
    end

    def generated
      key = OpenSSL::PKey::RSA.new(2048)
      @private_key = key.to_pem
      "ssh-rsa #{Base64.strict_encode64(key.public_key.to_blob)}"
    end

    def free_floating_ip
      return if @config.floating_ip_pool_always_allocate

      all = @session.get(:compute, "os-floating-ips")["floating_ips"]
      all.find { |one| @config.floating_ip_pool.include?(one["pool"]) && one["instance_id"].nil? }.to_h["ip"]
    end

    def new_floating_ip
      @session.post(:compute, "os-floating-ips", {pool: @config.floating_ip_pool.first})["floating_ip"]["ip"]
    end
  end
end
